/* Recursion deeper than a stack that is kept: the blocks count all the same, at the right functions. */
#include "truth.h"

#include <stdlib.h>

enum { DEPTH = 400, SIZE = 45 };

static struct site site = { "at_every_depth", "heap", 0, 0 };
static void *volatile kept;

SITE static void at_every_depth(int depth)
{
	kept = malloc(SIZE);
	if (kept == NULL)
		abort();
	truth_allocated(&site, SIZE);
	if (depth > 0)
		at_every_depth(depth - 1);
	__asm__ volatile("" : : : "memory"); /* no tail call */
}

int main(void)
{
	truth_begin();
	at_every_depth(DEPTH);
	truth_end("deep", &site, 1);
	return 0;
}
