/* Mappings are ranges: every way to cut, cover, move and fail that munmap, mmap and mremap have. */
#define _GNU_SOURCE
#include "truth.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

enum {
	HEAD, MIDDLE, TAIL, SEVERAL, COVERED, COVERS, GROWN, GROWS, SHRUNK, SHRINKS, MOVED, MOVES, FIXED_FROM, FIXED_TO,
	FIXED, LEFT_BEHIND, NOT_UNMAPPED, PART_MOVED, MOVES_PART, REFUSED, FILE_BACKED, PIECES, ODD, SITES
};

#define SITE_OF(name) { name, "mapping", 0, 0 }
static struct site sites[SITES] = {
	[HEAD] = SITE_OF("cut_at_its_head"),
	[MIDDLE] = SITE_OF("cut_in_its_middle"),
	[TAIL] = SITE_OF("cut_at_its_tail"),
	[SEVERAL] = SITE_OF("cut_together"),
	[COVERED] = SITE_OF("is_covered"),
	[COVERS] = SITE_OF("covers"),
	[GROWN] = SITE_OF("is_grown"),
	[GROWS] = SITE_OF("grows"),
	[SHRUNK] = SITE_OF("is_shrunk"),
	[SHRINKS] = SITE_OF("shrinks"),
	[MOVED] = SITE_OF("is_moved"),
	[MOVES] = SITE_OF("moves"),
	[FIXED_FROM] = SITE_OF("is_put_elsewhere"),
	[FIXED_TO] = SITE_OF("is_overwritten"),
	[FIXED] = SITE_OF("puts_elsewhere"),
	[LEFT_BEHIND] = SITE_OF("is_left_behind"),
	[NOT_UNMAPPED] = SITE_OF("moves_without_unmapping"),
	[PART_MOVED] = SITE_OF("loses_its_middle"),
	[MOVES_PART] = SITE_OF("moves_a_middle"),
	[REFUSED] = SITE_OF("is_refused"),
	[FILE_BACKED] = SITE_OF("maps_a_file"),
	[PIECES] = SITE_OF("is_unmapped_page_by_page"),
	[ODD] = SITE_OF("has_an_odd_length"),
};

static void must(int right)
{
	if (!right)
		abort();
}

/* Pages less of a mapping that still counts. */
static void lost_pages(int site, long pages)
{
	sites[site].bytes -= pages * PAGE;
}

static char *gained(int site, void *range, long pages)
{
	must(range != MAP_FAILED);
	truth_allocated(&sites[site], (size_t)pages * PAGE);
	return range;
}

/* mmap is called in each site itself. */
#define MAP_AT(at, pages, flags) \
	mmap((at), (size_t)(pages) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (flags), -1, 0)
#define MAP(pages) MAP_AT(NULL, (pages), 0)

SITE static void cut_at_its_head(void)
{
	char *range = gained(HEAD, MAP(8), 8);

	must(munmap(range, 3 * PAGE) == 0);
	lost_pages(HEAD, 3);
	/* what begins below a mapping and ends in it */
	must(munmap(range, 4 * PAGE) == 0);
	lost_pages(HEAD, 1);
}

SITE static void cut_in_its_middle(void)
{
	char *range = gained(MIDDLE, MAP(9), 9);

	must(munmap(range + 3 * PAGE, 3 * PAGE) == 0);
	lost_pages(MIDDLE, 3);
}

SITE static void cut_at_its_tail(void)
{
	char *range = gained(TAIL, MAP(9), 9);

	must(munmap(range + 5 * PAGE, 4 * PAGE) == 0);
	lost_pages(TAIL, 4);
}

/* Two neighbours and the gap between them; one loses its tail, the other its head. */
SITE static void cut_together(void)
{
	char *place = gained(SEVERAL, MAP(20), 20);

	must(munmap(place, 20 * PAGE) == 0);
	truth_freed(&sites[SEVERAL], 20 * PAGE);
	gained(SEVERAL, MAP_AT(place, 6, MAP_FIXED), 6);
	gained(SEVERAL, MAP_AT(place + 8 * PAGE, 2, MAP_FIXED), 2);
	gained(SEVERAL, MAP_AT(place + 12 * PAGE, 6, MAP_FIXED), 6);
	must(munmap(place + 4 * PAGE, 10 * PAGE) == 0);
	truth_freed(&sites[SEVERAL], 2 * PAGE);
	lost_pages(SEVERAL, 4);
}

SITE static char *is_covered(void)
{
	return gained(COVERED, MAP(8), 8);
}

SITE static void covers(char *range)
{
	gained(COVERS, MAP_AT(range + 2 * PAGE, 3, MAP_FIXED), 3);
	lost_pages(COVERED, 3);
	must(MAP_AT(range, 1, MAP_FIXED_NOREPLACE) == MAP_FAILED);
}

SITE static char *is_grown(void)
{
	return gained(GROWN, MAP(2), 2);
}

SITE static void grows(char *range)
{
	gained(GROWS, mremap(range, 2 * PAGE, 50 * PAGE, MREMAP_MAYMOVE), 50);
	truth_freed(&sites[GROWN], 2 * PAGE);
}

SITE static char *is_shrunk(void)
{
	return gained(SHRUNK, MAP(9), 9);
}

SITE static void shrinks(char *range)
{
	gained(SHRINKS, mremap(range, 9 * PAGE, 4 * PAGE, 0), 4);
	truth_freed(&sites[SHRUNK], 9 * PAGE);
}

SITE static char *is_moved(void)
{
	return gained(MOVED, MAP(5), 5);
}

/* The fifth page is in the way: no room to grow in place. */
SITE static void moves(char *range)
{
	char *moved;

	must(mremap(range, 4 * PAGE, 6 * PAGE, 0) == MAP_FAILED);
	moved = gained(MOVES, mremap(range, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE), 6);
	must(moved != range);
	lost_pages(MOVED, 4);
}

SITE static char *is_put_elsewhere(void)
{
	return gained(FIXED_FROM, MAP(3), 3);
}

SITE static char *is_overwritten(void)
{
	return gained(FIXED_TO, MAP(9), 9);
}

SITE static void puts_elsewhere(char *from, char *to)
{
	gained(FIXED, mremap(from, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 3 * PAGE), 3);
	truth_freed(&sites[FIXED_FROM], 3 * PAGE);
	lost_pages(FIXED_TO, 3);
}

SITE static char *is_left_behind(void)
{
	return gained(LEFT_BEHIND, MAP(5), 5);
}

/* The old range stays mapped, empty. */
SITE static void moves_without_unmapping(char *range)
{
	gained(NOT_UNMAPPED, mremap(range, 5 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL), 5);
}

SITE static char *loses_its_middle(void)
{
	return gained(PART_MOVED, MAP(9), 9);
}

SITE static void moves_a_middle(char *range)
{
	gained(MOVES_PART, mremap(range + 3 * PAGE, 2 * PAGE, 7 * PAGE, MREMAP_MAYMOVE), 7);
	lost_pages(PART_MOVED, 2);
}

/* Calls that fail change nothing. */
SITE static void is_refused(void)
{
	char *range = gained(REFUSED, MAP(4), 4);
	volatile size_t none = 0;

	must(munmap(range + 100, PAGE) != 0);
	must(munmap(range, none) != 0);
	must(mremap(range + 100, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	must(mremap(range, 4 * PAGE, none, MREMAP_MAYMOVE) == MAP_FAILED);
	must(mremap(range, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, range + 1) == MAP_FAILED);
	must(MAP_AT(range + 7, 1, MAP_FIXED) == MAP_FAILED);
	must(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 9999, 0) == MAP_FAILED);
}

SITE static void maps_a_file(void)
{
	int file = memfd_create("ranges", 0);

	must(file >= 0 && ftruncate(file, 5 * PAGE) == 0);
	gained(FILE_BACKED, mmap(NULL, 5 * PAGE, PROT_READ, MAP_SHARED, file, 0), 5);
	gained(FILE_BACKED, mmap64(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, file, PAGE), 2);
	must(close(file) == 0);
}

SITE static void is_unmapped_page_by_page(void)
{
	char *range = gained(PIECES, MAP(16), 16);

	for (int i = 0; i < 16; i += 2)
		must(munmap(range + i * PAGE, PAGE) == 0);
	lost_pages(PIECES, 8);
	for (int i = 1; i < 16; i += 2)
		must(munmap(range + i * PAGE, PAGE) == 0);
	lost_pages(PIECES, 8);
	sites[PIECES].count--;
}

/* Rounded up to whole pages, by mmap and munmap alike. */
SITE static void has_an_odd_length(void)
{
	char *range = mmap(NULL, 3 * PAGE + 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	gained(ODD, range, 4);
	must(munmap(range + 2 * PAGE, PAGE + 1) == 0);
	lost_pages(ODD, 2);
}

int main(void)
{
	truth_begin();
	cut_at_its_head();
	cut_in_its_middle();
	cut_at_its_tail();
	cut_together();
	covers(is_covered());
	grows(is_grown());
	shrinks(is_shrunk());
	moves(is_moved());
	puts_elsewhere(is_put_elsewhere(), is_overwritten());
	moves_without_unmapping(is_left_behind());
	moves_a_middle(loses_its_middle());
	is_refused();
	maps_a_file();
	is_unmapped_page_by_page();
	has_an_odd_length();
	truth_end("ranges", sites, SITES);
	return 0;
}
