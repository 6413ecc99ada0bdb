/* Every allocation function of glibc, each from a call site of its own; some blocks are freed. */
#define _GNU_SOURCE
#include "truth.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

enum {
	MALLOC, CALLOC, REALLOC_NEW, REALLOC_OLD, REALLOC_GROWN, POSIX_MEMALIGN, ALIGNED_ALLOC, MEMALIGN, VALLOC,
	PVALLOC, REALLOCARRAY, ALL_FREED, MMAP, MUNMAP_WHOLE, MUNMAP_TAIL, MREMAP_OLD, MREMAP, SITES
};

static struct site sites[SITES] = {
	[MALLOC] = { "by_malloc", "heap", 0, 0 },
	[CALLOC] = { "by_calloc", "heap", 0, 0 },
	[REALLOC_NEW] = { "by_realloc_of_null", "heap", 0, 0 },
	[REALLOC_OLD] = { "before_realloc", "heap", 0, 0 },
	[REALLOC_GROWN] = { "by_realloc", "heap", 0, 0 },
	[POSIX_MEMALIGN] = { "by_posix_memalign", "heap", 0, 0 },
	[ALIGNED_ALLOC] = { "by_aligned_alloc", "heap", 0, 0 },
	[MEMALIGN] = { "by_memalign", "heap", 0, 0 },
	[VALLOC] = { "by_valloc", "heap", 0, 0 },
	[PVALLOC] = { "by_pvalloc", "heap", 0, 0 },
	[REALLOCARRAY] = { "by_reallocarray", "heap", 0, 0 },
	[ALL_FREED] = { "all_freed", "heap", 0, 0 },
	[MMAP] = { "by_mmap", "mapping", 0, 0 },
	[MUNMAP_WHOLE] = { "unmapped_whole", "mapping", 0, 0 },
	[MUNMAP_TAIL] = { "unmapped_tail", "mapping", 0, 0 },
	[MREMAP_OLD] = { "before_mremap", "mapping", 0, 0 },
	[MREMAP] = { "by_mremap", "mapping", 0, 0 },
};

static void *gained(void *block, int site, size_t bytes)
{
	return truth_gained(&sites[site], block, bytes);
}

SITE static void by_malloc(void)
{
	gained(malloc(100), MALLOC, 100);
	gained(malloc(100), MALLOC, 100);
	free(gained(malloc(100), MALLOC, 100));
	truth_freed(&sites[MALLOC], 100);
}

SITE static void by_calloc(void)
{
	gained(calloc(4, 250), CALLOC, 1000);
	free(gained(calloc(4, 250), CALLOC, 1000));
	truth_freed(&sites[CALLOC], 1000);
}

SITE static void by_realloc_of_null(void)
{
	gained(realloc(NULL, 300), REALLOC_NEW, 300);
}

SITE static void *before_realloc(void)
{
	return gained(malloc(400), REALLOC_OLD, 400);
}

/* From here on the block belongs to the function that called realloc. */
SITE static void by_realloc(void *block)
{
	gained(realloc(block, 70000), REALLOC_GROWN, 70000);
	truth_freed(&sites[REALLOC_OLD], 400);
}

SITE static void by_posix_memalign(void)
{
	void *block = NULL;

	if (posix_memalign(&block, 64, 1000) != 0)
		abort();
	gained(block, POSIX_MEMALIGN, 1000);
}

SITE static void by_aligned_alloc(void)
{
	gained(aligned_alloc(64, 640), ALIGNED_ALLOC, 640);
}

SITE static void by_memalign(void)
{
	gained(memalign(128, 777), MEMALIGN, 777);
}

SITE static void by_valloc(void)
{
	gained(valloc(555), VALLOC, 555);
}

/* Rounded up to a page by glibc; what counts is what was asked for. */
SITE static void by_pvalloc(void)
{
#ifdef __GLIBC__ /* musl has none */
	gained(pvalloc(333), PVALLOC, 333);
#endif
}

SITE static void by_reallocarray(void)
{
	void *block = gained(reallocarray(NULL, 7, 30), REALLOCARRAY, 210);

	gained(reallocarray(block, 14, 300), REALLOCARRAY, 4200);
	truth_freed(&sites[REALLOCARRAY], 210);
}

SITE static void all_freed(void)
{
	for (int i = 0; i < 10; i++) {
		void *block = malloc(5000);

		truth_allocated(&sites[ALL_FREED], 5000);
		free(block);
		truth_freed(&sites[ALL_FREED], 5000);
	}
}

/* mmap is called in each site itself: the caller of mmap is the site. */
#define MAP(length) mmap(NULL, (length), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)

SITE static void by_mmap(void)
{
	gained(MAP(3 * PAGE - 100), MMAP, 3 * PAGE);
}

SITE static void unmapped_whole(void)
{
	void *range = gained(MAP(4 * PAGE), MUNMAP_WHOLE, 4 * PAGE);

	if (munmap(range, 4 * PAGE) != 0)
		abort();
	truth_freed(&sites[MUNMAP_WHOLE], 4 * PAGE);
}

SITE static void unmapped_tail(void)
{
	char *range = gained(MAP(8 * PAGE), MUNMAP_TAIL, 8 * PAGE);

	if (munmap(range + 5 * PAGE, 3 * PAGE) != 0)
		abort();
	sites[MUNMAP_TAIL].bytes -= 3 * PAGE;
}

SITE static void *before_mremap(void)
{
	return gained(MAP(2 * PAGE), MREMAP_OLD, 2 * PAGE);
}

SITE static void by_mremap(void *range)
{
	gained(mremap(range, 2 * PAGE, 6 * PAGE, MREMAP_MAYMOVE), MREMAP, 6 * PAGE);
	truth_freed(&sites[MREMAP_OLD], 2 * PAGE);
}

int main(void)
{
	truth_begin();
	by_malloc();
	by_calloc();
	by_realloc_of_null();
	by_realloc(before_realloc());
	by_posix_memalign();
	by_aligned_alloc();
	by_memalign();
	by_valloc();
	by_pvalloc();
	by_reallocarray();
	all_freed();
	by_mmap();
	unmapped_whole();
	unmapped_tail();
	by_mremap(before_mremap());
	truth_end("family", sites, SITES);
	return 0;
}
