/* Calls that fail, or free without free: no phantom allocation, no block forgotten. */
#define _GNU_SOURCE
#include "truth.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

enum { REALLOC, REALLOCARRAY, CALLOC, MALLOC_HUGE, POSIX_MEMALIGN, MALLOC_ZERO, REALLOC_ZERO, MMAP, MUNMAP, MREMAP, SITES };

static struct site sites[SITES] = {
	[REALLOC] = { "failed_realloc", "heap", 0, 0 },
	[REALLOCARRAY] = { "failed_reallocarray", "heap", 0, 0 },
	[CALLOC] = { "failed_calloc", "heap", 0, 0 },
	[MALLOC_HUGE] = { "failed_malloc", "heap", 0, 0 },
	[POSIX_MEMALIGN] = { "failed_posix_memalign", "heap", 0, 0 },
	[MALLOC_ZERO] = { "malloc_of_zero", "heap", 0, 0 },
	[REALLOC_ZERO] = { "realloc_to_zero", "heap", 0, 0 },
	[MMAP] = { "failed_mmap", "mapping", 0, 0 },
	[MUNMAP] = { "failed_munmap", "mapping", 0, 0 },
	[MREMAP] = { "failed_mremap", "mapping", 0, 0 },
};

/* More than any allocator gives; volatile, or the compiler sees the failure and warns. */
static volatile size_t huge = PTRDIFF_MAX;
static volatile size_t zero = 0;
static void *volatile kept[8];

static void must(int right)
{
	if (!right)
		abort();
}

/* The old block stays. */
SITE static void failed_realloc(void)
{
	kept[0] = malloc(1000);
	truth_allocated(&sites[REALLOC], 1000);
	must(realloc(kept[0], huge) == NULL);
}

SITE static void failed_reallocarray(void)
{
	kept[1] = malloc(2000);
	truth_allocated(&sites[REALLOCARRAY], 2000);
	must(reallocarray(kept[1], huge, 8) == NULL);
}

SITE static void failed_calloc(void)
{
	must(calloc(huge, 8) == NULL);
}

SITE static void failed_malloc(void)
{
	must(malloc(huge) == NULL);
}

/* An alignment that is no power of two: the pointer is not written. */
SITE static void failed_posix_memalign(void)
{
	void *block = NULL;

	must(posix_memalign(&block, zero + 3, 100) != 0 && block == NULL);
}

/* A block of no bytes is a block. */
SITE static void malloc_of_zero(void)
{
	free(NULL);
	kept[2] = malloc(zero);
	must(kept[2] != NULL);
	truth_allocated(&sites[MALLOC_ZERO], 0);
}

/* glibc frees, and returns NULL; others give a block of no bytes for it. */
SITE static void realloc_to_zero(void)
{
	kept[3] = malloc(5000);
	truth_allocated(&sites[REALLOC_ZERO], 5000);
	kept[3] = realloc(kept[3], zero);
	truth_freed(&sites[REALLOC_ZERO], 5000);
	if (kept[3] != NULL)
		truth_allocated(&sites[REALLOC_ZERO], 0);
}

SITE static void failed_mmap(void)
{
	must(mmap(NULL, zero, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	must(mmap(NULL, huge, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	must(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED);
}

/* An address that is no page: the mapping stays. */
SITE static void failed_munmap(void)
{
	char *range = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(range != MAP_FAILED);
	truth_allocated(&sites[MUNMAP], 2 * PAGE);
	must(munmap(range + 1, PAGE) != 0);
}

SITE static void failed_mremap(void)
{
	void *range = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(range != MAP_FAILED);
	truth_allocated(&sites[MREMAP], 3 * PAGE);
	must(mremap(range, 3 * PAGE, huge, MREMAP_MAYMOVE) == MAP_FAILED);
}

int main(void)
{
	truth_begin();
	failed_realloc();
	failed_reallocarray();
	failed_calloc();
	failed_malloc();
	failed_posix_memalign();
	malloc_of_zero();
	realloc_to_zero();
	failed_mmap();
	failed_munmap();
	failed_mremap();
	truth_end("failing", sites, SITES);
	return 0;
}
