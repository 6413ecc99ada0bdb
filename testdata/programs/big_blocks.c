/* Blocks that are mappings of their own, arenas of threads, a heap that is trimmed: what the allocator
 * maps and unmaps for itself is no event, its blocks are. */
#include "truth.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BIG = 4 << 20, BLOCKS = 20, SMALL = 2000, THREADS = 6 };

enum { BIG_ONES, SMALL_ONES, IN_ARENA, SITES };

static struct site sites[SITES] = {
	[BIG_ONES] = { "big_ones", "heap", 0, 0 },
	[SMALL_ONES] = { "small_ones", "heap", 0, 0 },
	[IN_ARENA] = { "in_arena", "heap", 0, 0 },
};

static void *small[SMALL];

static void must(int right)
{
	if (!right)
		abort();
}

SITE static void big_ones(void)
{
	void *blocks[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(BIG);
		must(blocks[i] != NULL);
		truth_allocated(&sites[BIG_ONES], BIG);
	}
	for (int i = 0; i < BLOCKS; i += 2) {
		free(blocks[i]); /* munmap */
		truth_freed(&sites[BIG_ONES], BIG);
	}
}

SITE static void small_ones(void)
{
	for (int i = 0; i < SMALL; i++) {
		small[i] = malloc(1000);
		must(small[i] != NULL);
		truth_allocated(&sites[SMALL_ONES], 1000);
	}
	for (int i = 1; i < SMALL; i++) {
		free(small[i]);
		truth_freed(&sites[SMALL_ONES], 1000);
	}
	malloc_trim(0);
}

SITE static void *in_arena(void *unused)
{
	for (int i = 0; i < SMALL; i++) {
		void *block = malloc(3000);

		must(block != NULL);
		memset(block, 1, 3000);
		truth_allocated(&sites[IN_ARENA], 3000);
		if (i % 10 != 0) {
			free(block);
			truth_freed(&sites[IN_ARENA], 3000);
		}
	}
	malloc_trim(0);
	return unused;
}

int main(void)
{
	pthread_t threads[THREADS];

	mallopt(M_MMAP_THRESHOLD, BIG / 2);
	truth_begin();
	big_ones();
	small_ones();
	for (int i = 0; i < THREADS; i++)
		must(pthread_create(&threads[i], NULL, in_arena, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		must(pthread_join(threads[i], NULL) == 0);
	small_ones();
	big_ones();
	truth_end("big_blocks", sites, SITES);
	return 0;
}
