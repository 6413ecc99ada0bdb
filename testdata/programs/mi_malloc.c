/* mimalloc's own functions, called by name. */
#include "truth.h"

#include <mimalloc.h>
#include <stdlib.h>

enum { MALLOC, ZALLOC, CALLOC, COUNT, SMALL, ALIGNED, ALIGNED_AT, POSIX, BEFORE, REALLOC, RECALLOC, HEAP, NEW, FREED, SITES };

static struct site sites[SITES] = {
	[MALLOC] = { "by_mi_malloc", "heap", 0, 0 },
	[ZALLOC] = { "by_mi_zalloc", "heap", 0, 0 },
	[CALLOC] = { "by_mi_calloc", "heap", 0, 0 },
	[COUNT] = { "by_mi_mallocn", "heap", 0, 0 },
	[SMALL] = { "by_mi_malloc_small", "heap", 0, 0 },
	[ALIGNED] = { "by_mi_malloc_aligned", "heap", 0, 0 },
	[ALIGNED_AT] = { "by_mi_zalloc_aligned_at", "heap", 0, 0 },
	[POSIX] = { "by_mi_posix_memalign", "heap", 0, 0 },
	[BEFORE] = { "before_mi_realloc", "heap", 0, 0 },
	[REALLOC] = { "by_mi_realloc", "heap", 0, 0 },
	[RECALLOC] = { "by_mi_recalloc", "heap", 0, 0 },
	[HEAP] = { "by_mi_heap", "heap", 0, 0 },
	[NEW] = { "by_mi_new", "heap", 0, 0 },
	[FREED] = { "freed", "heap", 0, 0 },
};

static void *gained(void *block, int site, size_t bytes)
{
	return truth_gained(&sites[site], block, bytes);
}

SITE static void by_mi_malloc(void)
{
	gained(mi_malloc(101), MALLOC, 101);
	gained(mi_malloc(300000), MALLOC, 300000);
}

SITE static void by_mi_zalloc(void)
{
	gained(mi_zalloc(102), ZALLOC, 102);
}

SITE static void by_mi_calloc(void)
{
	gained(mi_calloc(3, 35), CALLOC, 105);
}

SITE static void by_mi_mallocn(void)
{
	gained(mi_mallocn(7, 20), COUNT, 140);
}

SITE static void by_mi_malloc_small(void)
{
	gained(mi_malloc_small(33), SMALL, 33);
}

SITE static void by_mi_malloc_aligned(void)
{
	gained(mi_malloc_aligned(5000, 256), ALIGNED, 5000);
}

SITE static void by_mi_zalloc_aligned_at(void)
{
	gained(mi_zalloc_aligned_at(600, 64, 16), ALIGNED_AT, 600);
}

SITE static void by_mi_posix_memalign(void)
{
	void *block = NULL;

	if (mi_posix_memalign(&block, 64, 1234) != 0)
		abort();
	gained(block, POSIX, 1234);
}

SITE static void *before_mi_realloc(void)
{
	return gained(mi_malloc(200), BEFORE, 200);
}

SITE static void by_mi_realloc(void *block)
{
	gained(mi_realloc(block, 9000), REALLOC, 9000);
	truth_freed(&sites[BEFORE], 200);
	gained(mi_reallocn(NULL, 5, 50), REALLOC, 250);
}

SITE static void by_mi_recalloc(void)
{
	void *block = gained(mi_recalloc(NULL, 10, 10), RECALLOC, 100);

	gained(mi_recalloc(block, 100, 10), RECALLOC, 1000);
	truth_freed(&sites[RECALLOC], 100);
}

SITE static void by_mi_heap(void)
{
	mi_heap_t *heap = mi_heap_new();

	gained(mi_heap_malloc(heap, 111), HEAP, 111);
	gained(mi_heap_zalloc(heap, 222), HEAP, 222);
	gained(mi_heap_realloc(heap, gained(mi_heap_calloc(heap, 3, 111), HEAP, 333), 3330), HEAP, 3330);
	truth_freed(&sites[HEAP], 333);
}

SITE static void by_mi_new(void)
{
	gained(mi_new(77), NEW, 77);
	gained(mi_new_aligned(128, 64), NEW, 128);
}

SITE static void freed(void)
{
	for (int i = 0; i < 10; i++) {
		mi_free(gained(mi_malloc(64), FREED, 64));
		truth_freed(&sites[FREED], 64);
		mi_free_size(gained(mi_malloc(65), FREED, 65), 65);
		truth_freed(&sites[FREED], 65);
		mi_free_size_aligned(gained(mi_malloc_aligned(128, 128), FREED, 128), 128, 128);
		truth_freed(&sites[FREED], 128);
		mi_free_aligned(gained(mi_malloc_aligned(256, 256), FREED, 256), 256);
		truth_freed(&sites[FREED], 256);
	}
}

int main(void)
{
	truth_begin();
	by_mi_malloc();
	by_mi_zalloc();
	by_mi_calloc();
	by_mi_mallocn();
	by_mi_malloc_small();
	by_mi_malloc_aligned();
	by_mi_zalloc_aligned_at();
	by_mi_posix_memalign();
	by_mi_realloc(before_mi_realloc());
	by_mi_recalloc();
	by_mi_heap();
	by_mi_new();
	freed();
	truth_end("mi_malloc", sites, SITES);
	return 0;
}
