/* Eight threads, each with a size of its own; each frees half of its neighbour's blocks. */
#include "truth.h"

#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 8, BLOCKS = 1000 };

static struct site sites[THREADS] = {
	{ "thread_0", "heap", 0, 0 }, { "thread_1", "heap", 0, 0 }, { "thread_2", "heap", 0, 0 },
	{ "thread_3", "heap", 0, 0 }, { "thread_4", "heap", 0, 0 }, { "thread_5", "heap", 0, 0 },
	{ "thread_6", "heap", 0, 0 }, { "thread_7", "heap", 0, 0 },
};

static void *blocks[THREADS][BLOCKS];
static pthread_barrier_t allocated;

static size_t size_of(int thread)
{
	return 24 + (size_t)thread * 1000;
}

/* Everyone has allocated; now every second block of the neighbour goes. */
static void free_neighbours(int thread)
{
	int neighbour = (thread + 1) % THREADS;

	pthread_barrier_wait(&allocated);
	for (int i = 0; i < BLOCKS; i += 2) {
		free(blocks[neighbour][i]);
		truth_freed(&sites[neighbour], size_of(neighbour));
	}
}

/* One function a thread, so that every thread has a call site of its own. */
#define THREAD(n)                                              \
	SITE static void *thread_##n(void *unused)             \
	{                                                      \
		(void)unused;                                  \
		for (int i = 0; i < BLOCKS; i++) {             \
			blocks[n][i] = malloc(size_of(n));     \
			truth_allocated(&sites[n], size_of(n)); \
		}                                              \
		free_neighbours(n);                            \
		return NULL;                                   \
	}

THREAD(0)
THREAD(1)
THREAD(2)
THREAD(3)
THREAD(4)
THREAD(5)
THREAD(6)
THREAD(7)

int main(void)
{
	static void *(*const starts[THREADS])(void *) = { thread_0, thread_1, thread_2, thread_3,
							  thread_4, thread_5, thread_6, thread_7 };
	pthread_t threads[THREADS];

	truth_begin();
	if (pthread_barrier_init(&allocated, NULL, THREADS) != 0)
		abort();
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, starts[i], NULL) != 0)
			abort();
	for (int i = 0; i < THREADS; i++)
		if (pthread_join(threads[i], NULL) != 0)
			abort();
	truth_end("threads", sites, THREADS);
	return 0;
}
