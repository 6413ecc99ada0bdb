/* The demonstration: three functions, called by main, that never free what they allocate. */
#include "truth.h"

#include <stdlib.h>

static struct site sites[] = {
	{ "leak_small", "heap", 0, 0 },
	{ "leak_large", "heap", 0, 0 },
	{ "leak_with_loop", "heap", 0, 0 },
};

static void *kept[7];

SITE static void leak_small(void)
{
	kept[0] = malloc(1024);
	truth_allocated(&sites[0], 1024);
}

SITE static void leak_large(void)
{
	kept[1] = malloc(8192);
	truth_allocated(&sites[1], 8192);
}

SITE static void leak_with_loop(void)
{
	for (int i = 0; i < 5; i++) {
		kept[2 + i] = malloc(2048);
		truth_allocated(&sites[2], 2048);
	}
}

int main(void)
{
	truth_begin();
	leak_small();
	leak_large();
	leak_with_loop();
	truth_end("test_memleak", sites, sizeof(sites) / sizeof(sites[0]));
	return 0;
}
