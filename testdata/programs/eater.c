/* Takes memory and writes to it until the kernel ends it: for a limit that the test sets. */
#include "truth.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 * 1024 };

static struct site site = { "eat", "heap", 0, 0 };

SITE static void eat(void)
{
	void *block = malloc(BLOCK);

	if (block == NULL)
		abort();
	memset(block, 1, BLOCK);
	truth_allocated(&site, BLOCK);
}

int main(void)
{
	truth_begin();
	for (;;)
		eat();
}
