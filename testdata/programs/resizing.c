/* realloc and reallocarray in all their outcomes: moved, in place, smaller, to nothing, from nothing,
 * refused; of small blocks and of blocks that are mappings, for which they call mremap. */
#define _GNU_SOURCE
#include "truth.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

enum { BIG = 1 << 20 };

enum { OLD, FROM_NULL, SHRUNK, GROWN, STEPS, TO_ZERO, REFUSED, ARRAY, ARRAY_OVERFLOW, ARRAY_ZERO, BIG_GROWN, BIG_SHRUNK, BIG_REFUSED, ALIGNED, SITES };

static struct site sites[SITES] = {
	[OLD] = { "old_block", "heap", 0, 0 },
	[FROM_NULL] = { "from_null", "heap", 0, 0 },
	[SHRUNK] = { "shrinks", "heap", 0, 0 },
	[GROWN] = { "grows", "heap", 0, 0 },
	[STEPS] = { "grows_in_steps", "heap", 0, 0 },
	[TO_ZERO] = { "to_zero", "heap", 0, 0 },
	[REFUSED] = { "refused", "heap", 0, 0 },
	[ARRAY] = { "array", "heap", 0, 0 },
	[ARRAY_OVERFLOW] = { "array_overflow", "heap", 0, 0 },
	[ARRAY_ZERO] = { "array_of_nothing", "heap", 0, 0 },
	[BIG_GROWN] = { "big_grows", "heap", 0, 0 },
	[BIG_SHRUNK] = { "big_shrinks", "heap", 0, 0 },
	[BIG_REFUSED] = { "big_refused", "heap", 0, 0 },
	[ALIGNED] = { "aligned_grows", "heap", 0, 0 },
};

static volatile size_t huge = PTRDIFF_MAX, zero = 0;
static void *kept[64];
static int kept_count;

static void must(int right)
{
	if (!right)
		abort();
}

static void *gained(int site, void *block, size_t bytes)
{
	must(block != NULL);
	kept[kept_count++ % 64] = block;
	truth_allocated(&sites[site], bytes);
	return block;
}

SITE static void *old_block(size_t bytes)
{
	return gained(OLD, malloc(bytes), bytes);
}

static void old_gone(size_t bytes)
{
	truth_freed(&sites[OLD], bytes);
}

SITE static void from_null(void)
{
	gained(FROM_NULL, realloc(NULL, 111), 111);
	gained(FROM_NULL, realloc(NULL, zero), 0);
	gained(FROM_NULL, reallocarray(NULL, 3, 11), 33);
}

SITE static void shrinks(void)
{
	gained(SHRUNK, realloc(old_block(5000), 50), 50);
	old_gone(5000);
}

SITE static void grows(void)
{
	gained(GROWN, realloc(old_block(50), 5000), 5000);
	old_gone(50);
}

SITE static void grows_in_steps(void)
{
	void *block = gained(STEPS, realloc(NULL, 10), 10);

	for (size_t bytes = 10; bytes < 3000000; bytes *= 3) {
		block = gained(STEPS, realloc(block, bytes * 3), bytes * 3);
		truth_freed(&sites[STEPS], bytes);
	}
}

SITE static void to_zero(void)
{
	must(realloc(old_block(700), zero) == NULL);
	old_gone(700);
	must(realloc(old_block(BIG), zero) == NULL);
	old_gone(BIG);
}

SITE static void refused(void)
{
	void *volatile block = gained(REFUSED, malloc(60), 60); /* volatile: the compiler sees no use after realloc */

	must(realloc(block, huge) == NULL);
	must(realloc(block, huge) == NULL);
	must(realloc(NULL, huge) == NULL);
}

SITE static void array(void)
{
	gained(ARRAY, reallocarray(old_block(12), 100, 7), 700);
	old_gone(12);
}

SITE static void array_overflow(void)
{
	void *volatile block = gained(ARRAY_OVERFLOW, malloc(61), 61);

	/* the product is 0 in 64 bits: not a realloc to zero */
	must(reallocarray(block, (size_t)1 << (32 + zero), (size_t)1 << 32) == NULL);
	must(reallocarray(block, huge, 3) == NULL);
	must(reallocarray(NULL, huge, 3) == NULL);
}

SITE static void array_of_nothing(void)
{
	must(reallocarray(old_block(62), zero, 9) == NULL);
	old_gone(62);
	gained(ARRAY_ZERO, reallocarray(NULL, zero, 9), 0);
}

SITE static void big_grows(void)
{
	gained(BIG_GROWN, realloc(old_block(BIG), 8 * BIG), 8 * BIG);
	old_gone(BIG);
}

SITE static void big_shrinks(void)
{
	gained(BIG_SHRUNK, realloc(old_block(8 * BIG), BIG + 1), BIG + 1);
	old_gone(8 * BIG);
	gained(BIG_SHRUNK, realloc(old_block(8 * BIG), 10), 10);
	old_gone(8 * BIG);
}

SITE static void big_refused(void)
{
	void *block = gained(BIG_REFUSED, malloc(BIG), BIG);

	must(realloc(block, huge) == NULL);
}

SITE static void aligned_grows(void)
{
	void *block = NULL;

	must(posix_memalign(&block, 4096, 900) == 0);
	gained(ALIGNED, block, 900);
	gained(ALIGNED, realloc(block, 9000), 9000);
	truth_freed(&sites[ALIGNED], 900);
}

int main(void)
{
	mallopt(M_MMAP_THRESHOLD, BIG / 2); /* fixed: else it follows the blocks that are freed */
	truth_begin();
	from_null();
	shrinks();
	grows();
	grows_in_steps();
	to_zero();
	refused();
	array();
	array_overflow();
	array_of_nothing();
	big_grows();
	big_shrinks();
	big_refused();
	aligned_grows();
	truth_end("resizing", sites, SITES);
	return 0;
}
