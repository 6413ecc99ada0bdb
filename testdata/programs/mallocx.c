/* jemalloc's own functions, called by name. */
#include "truth.h"

#include <jemalloc/jemalloc.h>
#include <stdlib.h>

enum { PLAIN, ALIGNED, BEFORE, GROWN, IN_PLACE, NOT_IN_PLACE, FREED, SITES };

static struct site sites[SITES] = {
	[PLAIN] = { "by_mallocx", "heap", 0, 0 },
	[ALIGNED] = { "by_mallocx_aligned", "heap", 0, 0 },
	[BEFORE] = { "before_rallocx", "heap", 0, 0 },
	[GROWN] = { "by_rallocx", "heap", 0, 0 },
	[IN_PLACE] = { "by_xallocx", "heap", 0, 0 },
	[NOT_IN_PLACE] = { "failed_xallocx", "heap", 0, 0 },
	[FREED] = { "freed", "heap", 0, 0 },
};

static void *gained(void *block, int site, size_t bytes)
{
	return truth_gained(&sites[site], block, bytes);
}

SITE static void by_mallocx(void)
{
	gained(mallocx(700, 0), PLAIN, 700);
	gained(mallocx(800, MALLOCX_ZERO), PLAIN, 800);
}

SITE static void by_mallocx_aligned(void)
{
	gained(mallocx(900, MALLOCX_ALIGN(4096)), ALIGNED, 900);
}

SITE static void *before_rallocx(void)
{
	return gained(mallocx(100, 0), BEFORE, 100);
}

SITE static void by_rallocx(void *block)
{
	gained(rallocx(block, 50000, 0), GROWN, 50000);
	truth_freed(&sites[BEFORE], 100);
}

/* Within its size class there is room. */
SITE static void by_xallocx(void)
{
	void *block = gained(mallocx(1, 0), IN_PLACE, 1);
	size_t room = sallocx(block, 0);

	if (room < 2 || xallocx(block, room, 0, 0) != room)
		abort();
	truth_freed(&sites[IN_PLACE], 1);
	truth_allocated(&sites[IN_PLACE], room);
}

/* Another size class is another place: it stays as large as it was. */
SITE static void failed_xallocx(void)
{
	void *block = gained(mallocx(64, 0), NOT_IN_PLACE, 64);

	if (xallocx(block, 4096, 0, 0) >= 4096)
		abort();
}

SITE static void freed(void)
{
	for (int i = 0; i < 10; i++) {
		dallocx(gained(mallocx(128, 0), FREED, 128), 0);
		truth_freed(&sites[FREED], 128);
		sdallocx(gained(mallocx(256, 0), FREED, 256), 256, 0);
		truth_freed(&sites[FREED], 256);
		free(gained(mallocx(512, 0), FREED, 512));
		truth_freed(&sites[FREED], 512);
	}
	(void)nallocx(1000, 0); /* asks only */
}

int main(void)
{
	truth_begin();
	by_mallocx();
	by_mallocx_aligned();
	by_rallocx(before_rallocx());
	by_xallocx();
	failed_xallocx();
	freed();
	truth_end("mallocx", sites, SITES);
	return 0;
}
