/* tcmalloc's own functions, called by name. */
#include "truth.h"

#include <gperftools/tcmalloc.h>
#include <stdlib.h>

enum { MALLOC, CALLOC, BEFORE, REALLOC, MEMALIGN, POSIX, FREED, SITES };

static struct site sites[SITES] = {
	[MALLOC] = { "by_tc_malloc", "heap", 0, 0 },
	[CALLOC] = { "by_tc_calloc", "heap", 0, 0 },
	[BEFORE] = { "before_tc_realloc", "heap", 0, 0 },
	[REALLOC] = { "by_tc_realloc", "heap", 0, 0 },
	[MEMALIGN] = { "by_tc_memalign", "heap", 0, 0 },
	[POSIX] = { "by_tc_posix_memalign", "heap", 0, 0 },
	[FREED] = { "freed", "heap", 0, 0 },
};

static void *gained(void *block, int site, size_t bytes)
{
	return truth_gained(&sites[site], block, bytes);
}

SITE static void by_tc_malloc(void)
{
	gained(tc_malloc(120), MALLOC, 120);
	gained(tc_malloc_skip_new_handler(130), MALLOC, 130);
}

SITE static void by_tc_calloc(void)
{
	gained(tc_calloc(12, 12), CALLOC, 144);
}

SITE static void *before_tc_realloc(void)
{
	return gained(tc_malloc(200), BEFORE, 200);
}

SITE static void by_tc_realloc(void *block)
{
	gained(tc_realloc(block, 20000), REALLOC, 20000);
	truth_freed(&sites[BEFORE], 200);
}

SITE static void by_tc_memalign(void)
{
	gained(tc_memalign(256, 1000), MEMALIGN, 1000);
	gained(tc_valloc(2000), MEMALIGN, 2000);
	gained(tc_pvalloc(3000), MEMALIGN, 3000);
}

SITE static void by_tc_posix_memalign(void)
{
	void *block = NULL;

	if (tc_posix_memalign(&block, 64, 640) != 0)
		abort();
	gained(block, POSIX, 640);
}

SITE static void freed(void)
{
	for (int i = 0; i < 10; i++) {
		tc_free(gained(tc_malloc(64), FREED, 64));
		truth_freed(&sites[FREED], 64);
		tc_free_sized(gained(tc_malloc(65), FREED, 65), 65);
		truth_freed(&sites[FREED], 65);
		tc_cfree(gained(tc_malloc(66), FREED, 66));
		truth_freed(&sites[FREED], 66);
	}
}

int main(void)
{
	truth_begin();
	by_tc_malloc();
	by_tc_calloc();
	by_tc_realloc(before_tc_realloc());
	by_tc_memalign();
	by_tc_posix_memalign();
	freed();
	truth_end("tc_malloc", sites, SITES);
	return 0;
}
