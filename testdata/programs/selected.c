/* selected LEAST MOST: blocks below, within and above two sizes, kept, freed, reallocated across the
 * bounds, freed by another thread. The truth counts the heap blocks whose size lies within the bounds
 * only, as a recording with -z LEAST -Z MOST has them; mappings count whatever their size. */
#define _GNU_SOURCE
#include "truth.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ROUNDS = 300, PAGE = 4096 };
enum { BELOW = 100, WITHIN = 2000, MORE = 3000, ABOVE = 9000 };

enum { KEEPS_BELOW, KEEPS_WITHIN, KEEPS_ABOVE, GROWS_IN, GROWS_OUT, SHRINKS_OUT, FAILS, FREES_BY_ZERO, OTHERS_FREE, MAPS, SITES };

static struct site sites[SITES] = {
	[KEEPS_BELOW] = { "keeps_below", "heap", 0, 0 },
	[KEEPS_WITHIN] = { "keeps_within", "heap", 0, 0 },
	[KEEPS_ABOVE] = { "keeps_above", "heap", 0, 0 },
	[GROWS_IN] = { "grows_in", "heap", 0, 0 },
	[GROWS_OUT] = { "grows_out", "heap", 0, 0 },
	[SHRINKS_OUT] = { "shrinks_out", "heap", 0, 0 },
	[FAILS] = { "fails", "heap", 0, 0 },
	[FREES_BY_ZERO] = { "frees_by_zero", "heap", 0, 0 },
	[OTHERS_FREE] = { "others_free", "heap", 0, 0 },
	[MAPS] = { "maps", "mapping", 0, 0 },
};

static size_t least, most;
static void *given[2 * ROUNDS];

static void allocated(int site, size_t size)
{
	if (size >= least && size <= most)
		truth_allocated(&sites[site], size);
}

static void freed(int site, size_t size)
{
	if (size >= least && size <= most)
		truth_freed(&sites[site], size);
}

SITE static void *keeps_below(void)
{
	allocated(KEEPS_BELOW, BELOW);
	return malloc(BELOW);
}

SITE static void *keeps_within(void)
{
	allocated(KEEPS_WITHIN, WITHIN);
	return malloc(WITHIN);
}

SITE static void *keeps_above(void)
{
	allocated(KEEPS_ABOVE, ABOVE);
	return calloc(3, ABOVE / 3);
}

/* One block from a size to another; what it becomes is kept. */
SITE static void *grows_in(void)
{
	void *block = malloc(BELOW);

	allocated(GROWS_IN, WITHIN);
	return realloc(block, WITHIN);
}

SITE static void *grows_out(void)
{
	void *block = malloc(WITHIN);

	allocated(GROWS_OUT, ABOVE);
	return realloc(block, ABOVE);
}

SITE static void *shrinks_out(void)
{
	void *block = malloc(WITHIN);

	allocated(SHRINKS_OUT, BELOW);
	return realloc(block, BELOW);
}

/* The old blocks stay, one that counts and one that does not; they are freed every other time. */
SITE static void fails(int round)
{
	/* volatile: the compiler knows that no block is so large */
	volatile size_t too_large = SIZE_MAX / 2;
	void *volatile within = malloc(MORE), *volatile below = malloc(BELOW);

	allocated(FAILS, MORE);
	allocated(FAILS, BELOW);
	if (realloc(within, too_large) != NULL || realloc(below, too_large) != NULL)
		abort();
	if (round % 2 == 0) {
		freed(FAILS, MORE);
		freed(FAILS, BELOW);
		free(within);
		free(below);
	}
}

SITE static void frees_by_zero(void)
{
	void *volatile within = malloc(WITHIN), *volatile below = malloc(BELOW);

	/* NULL where it frees; else the compiler warns of an unused result */
	if (realloc(within, 0) != NULL || realloc(below, 0) != NULL)
		abort();
	free(NULL);
	free(malloc(0));
}

SITE static void others_free(int round)
{
	given[2 * round] = malloc(WITHIN);
	given[2 * round + 1] = malloc(BELOW);
	allocated(OTHERS_FREE, WITHIN);
	allocated(OTHERS_FREE, BELOW);
}

static void *frees_given(void *unused)
{
	for (int i = 0; i < 2 * ROUNDS; i++) {
		freed(OTHERS_FREE, i % 2 == 0 ? WITHIN : BELOW);
		free(given[i]);
	}
	return unused;
}

/* A mapping of three pages, of which the middle one is given back. */
SITE static void maps(void)
{
	char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || munmap(pages + PAGE, PAGE) != 0)
		abort();
	truth_allocated(&sites[MAPS], 2 * PAGE);
}

int main(int count, char **arguments)
{
	pthread_t other;

	if (count != 3) {
		truth_say("usage: selected LEAST MOST\n");
		return 2;
	}
	least = strtoul(arguments[1], NULL, 10);
	most = strtoul(arguments[2], NULL, 10);
	/* Blocks that are older than any recording: their frees are nobody's. */
	void *old[] = { malloc(BELOW), malloc(WITHIN) };

	truth_begin();
	free(old[0]);
	free(old[1]);
	for (int i = 0; i < ROUNDS; i++) {
		/* What is freed at once gives its address to a block of another fate. */
		free(keeps_within());
		freed(KEEPS_WITHIN, WITHIN);
		keeps_below();
		free(keeps_below());
		freed(KEEPS_BELOW, BELOW);
		keeps_within();
		keeps_above();
		grows_in();
		grows_out();
		shrinks_out();
		fails(i);
		frees_by_zero();
		others_free(i);
	}
	maps();
	if (pthread_create(&other, NULL, frees_given, NULL) != 0 || pthread_join(other, NULL) != 0)
		abort();
	truth_end("selected", sites, SITES);
	return 0;
}
