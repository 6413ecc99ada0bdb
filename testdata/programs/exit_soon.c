/* Is gone at once: what it kept is outstanding at its end, and the recording ends with it. */
#include "truth.h"

#include <stdlib.h>
#include <unistd.h>

static struct site sites[] = { { "keep_and_go", "heap", 0, 0 } };
static void *kept[4];

SITE static void keep_and_go(void)
{
	for (int i = 0; i < 4; i++) {
		kept[i] = malloc(256);
		truth_allocated(&sites[0], 256);
	}
}

int main(void)
{
	truth_begin();
	keep_and_go();
	truth_tell("exit_soon", sites, 1);
	_exit(0);
}
