/* 1.1 million blocks alive at once. */
#include "truth.h"

#include <stdlib.h>

enum { BLOCKS = 1100000, SIZES = 5 };

static struct site site = { "lives", "heap", 0, 0 };
static void *blocks[BLOCKS];

/* 32 to 92 bytes. */
static size_t size_of(int block)
{
	return 32 + (size_t)(block % SIZES) * 15;
}

SITE static void lives(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(size_of(i));
		truth_allocated(&site, size_of(i));
	}
}

int main(void)
{
	truth_begin();
	lives();
	truth_end("live_blocks", &site, 1);
	return 0;
}
