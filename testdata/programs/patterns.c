/* Four ways to hold memory over two seconds, for timelines and verdicts: a leak, a cache that is full
 * early and replaces what it holds, a block allocated once, and blocks that come and go. */
#include "truth.h"

#include <stdlib.h>
#include <time.h>

enum { STEPS = 400, STEP_NS = 5000000, CACHE_BLOCKS = 60 };
enum { LEAK_SIZE = 512, CACHE_SIZE = 1024, ONCE_SIZE = 50000, SHORT_SIZE = 2048, SHORT_BLOCKS = 4 };

enum { GROWS, CACHE, ONCE, SHORT, SITES };

static struct site sites[SITES] = {
	[GROWS] = { "grows_for_ever", "heap", 0, 0 },
	[CACHE] = { "fills_a_cache", "heap", 0, 0 },
	[ONCE] = { "allocates_once", "heap", 0, 0 },
	[SHORT] = { "comes_and_goes", "heap", 0, 0 },
};

static void *leaked[STEPS];
static void *cache[CACHE_BLOCKS];
static void *once;

SITE static void grows_for_ever(int step)
{
	leaked[step] = malloc(LEAK_SIZE);
	truth_allocated(&sites[GROWS], LEAK_SIZE);
}

SITE static void fills_a_cache(int step)
{
	void **slot = &cache[step % CACHE_BLOCKS];

	if (*slot != NULL)
		truth_freed(&sites[CACHE], CACHE_SIZE);
	free(*slot);
	*slot = malloc(CACHE_SIZE);
	truth_allocated(&sites[CACHE], CACHE_SIZE);
}

SITE static void allocates_once(void)
{
	once = malloc(ONCE_SIZE);
	truth_allocated(&sites[ONCE], ONCE_SIZE);
}

SITE static void comes_and_goes(void)
{
	void *blocks[SHORT_BLOCKS];

	for (int i = 0; i < SHORT_BLOCKS; i++)
		blocks[i] = malloc(SHORT_SIZE);
	for (int i = 0; i < SHORT_BLOCKS; i++)
		free(blocks[i]);
}

SITE static void step(int number)
{
	grows_for_ever(number);
	fills_a_cache(number);
	comes_and_goes();
}

int main(void)
{
	struct timespec pause = { 0, STEP_NS };

	truth_begin();
	allocates_once();
	for (int i = 0; i < STEPS; i++) {
		step(i);
		nanosleep(&pause, NULL);
	}
	truth_end("patterns", sites, SITES);
	return 0;
}
