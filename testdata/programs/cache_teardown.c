/* Blocks that lie in a thread's cache when it ends are freed a second time by libc: no second event of
 * the program, no block less. */
#include "truth.h"

#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 20, BLOCKS = 5 };

enum { CACHED, KEPT, SITES };

static struct site sites[SITES] = {
	[CACHED] = { "leaves_in_the_cache", "heap", 0, 0 },
	[KEPT] = { "keeps", "heap", 0, 0 },
};

static void *volatile kept;

SITE static void keeps(void)
{
	kept = malloc(77);
	truth_allocated(&sites[KEPT], 77);
}

SITE static void *leaves_in_the_cache(void *unused)
{
	void *blocks[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(50);
		truth_allocated(&sites[CACHED], 50);
	}
	keeps();
	for (int i = 0; i < BLOCKS; i++) {
		free(blocks[i]);
		truth_freed(&sites[CACHED], 50);
	}
	return unused;
}

int main(void)
{
	pthread_t thread;

	truth_begin();
	for (int i = 0; i < THREADS; i++) {
		if (pthread_create(&thread, NULL, leaves_in_the_cache, NULL) != 0)
			abort();
		if (pthread_join(thread, NULL) != 0)
			abort();
	}
	truth_end("cache_teardown", sites, SITES);
	return 0;
}
