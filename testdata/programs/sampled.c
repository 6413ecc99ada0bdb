/* Three call sites that allocate much, in blocks of their own sizes, and free most of it: what a
 * sampled recording is held against. The truth tells also what was allocated in all. */
#include "truth.h"

#include <stdlib.h>

enum { SMALL_BLOCKS = 12000, MIXED_BLOCKS = 2500, LARGE_BLOCKS = 60 };
enum { SMALL, MIXED, LARGE, SITES };

static struct site sites[SITES] = {
	[SMALL] = { "many_small", "heap", 0, 0 },
	[MIXED] = { "some_mixed", "heap", 0, 0 },
	[LARGE] = { "few_large", "heap", 0, 0 },
};
/* The same sites with all that they ever allocated. */
static struct site totals[SITES] = {
	[SMALL] = { "many_small", "heap", 0, 0 },
	[MIXED] = { "some_mixed", "heap", 0, 0 },
	[LARGE] = { "few_large", "heap", 0, 0 },
};
static void *held[SMALL_BLOCKS];

/* The caller's size, from a fixed sequence. */
static unsigned next(void)
{
	static unsigned state = 2026;

	state = state * 1664525u + 1013904223u;
	return state >> 8;
}

static void *account(int site, void *block, size_t size)
{
	truth_allocated(&sites[site], size);
	truth_allocated(&totals[site], size);
	return block;
}

SITE static void *many_small(size_t size)
{
	return account(SMALL, malloc(size), size);
}

/* Half of its size first, as buffers grow. */
SITE static void *some_mixed(size_t size)
{
	void *block = account(MIXED, malloc(size / 2), size / 2);

	truth_freed(&sites[MIXED], size / 2);
	return account(MIXED, realloc(block, size), size);
}

SITE static void *few_large(size_t size)
{
	return account(LARGE, malloc(size), size);
}

/* Makes blocks at a site, of `least` bytes and up to `spread` more; frees all but every fourth. */
static void fill(int site, void *(*make)(size_t), int blocks, unsigned least, unsigned spread)
{
	for (int i = 0; i < blocks; i++) {
		size_t size = least + next() % spread;
		void *block = make(size);

		if (i % 4 != 0) {
			truth_freed(&sites[site], size);
			free(block);
		} else {
			held[i / 4] = block;
		}
	}
}

int main(void)
{
	int again;

	truth_begin();
	do {
		fill(SMALL, many_small, SMALL_BLOCKS, 16, 400);
		fill(MIXED, some_mixed, MIXED_BLOCKS, 1000, 60000);
		fill(LARGE, few_large, LARGE_BLOCKS, 100000, 400000);
		truth_tell("sampled", sites, SITES);
		truth_tell("sampled, totals", totals, SITES);
		again = truth_done();
	} while (again);
	return 0;
}
