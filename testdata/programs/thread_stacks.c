/* 50 threads that run at once. Their stacks are mapped by pthread_create, and are kept or unmapped by
 * libc when they end; one thread is never joined. The truth is which stacks are still mapped at the end.
 */
#define _GNU_SOURCE
#include "truth.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { THREADS = 50, PAGE = 4096, STACK = 2 << 20 };

enum { STACKS, BLOCKS, SITES };

static struct site sites[SITES] = {
	[STACKS] = { "main", "mapping", 0, 0 },
	[BLOCKS] = { "runs", "heap", 0, 0 },
};

static pthread_barrier_t all_run;
static char *lowest[THREADS];

static void must(int right)
{
	if (!right)
		abort();
}

SITE static void *runs(void *number)
{
	pthread_attr_t attributes;
	void *start;
	size_t bytes;
	void *block = malloc(100);

	must(block != NULL);
	truth_allocated(&sites[BLOCKS], 100);
	if ((long)number % 2 == 0) {
		free(block);
		truth_freed(&sites[BLOCKS], 100);
	}
	must(pthread_getattr_np(pthread_self(), &attributes) == 0);
	must(pthread_attr_getstack(&attributes, &start, &bytes) == 0);
	must(pthread_attr_destroy(&attributes) == 0);
	lowest[(long)number] = start;
	pthread_barrier_wait(&all_run);
	return NULL;
}

/* Whether the page is mapped, whatever its protection. */
static int is_mapped(char *page)
{
	return msync(page, PAGE, MS_ASYNC) == 0 || errno != ENOMEM;
}

int main(void)
{
	pthread_t threads[THREADS];
	pthread_attr_t attributes;

	truth_begin();
	must(pthread_barrier_init(&all_run, NULL, THREADS) == 0);
	must(pthread_attr_init(&attributes) == 0);
	must(pthread_attr_setstacksize(&attributes, STACK) == 0);
	for (long i = 0; i < THREADS; i++)
		must(pthread_create(&threads[i], &attributes, runs, (void *)i) == 0);
	for (int i = 1; i < THREADS; i++)
		must(pthread_join(threads[i], NULL) == 0);
	/* the guard page is part of the mapping, which is as large as was asked for and the guard */
	for (int i = 0; i < THREADS; i++)
		if (is_mapped(lowest[i]))
			truth_allocated(&sites[STACKS], STACK + PAGE);
	truth_end("thread_stacks", sites, SITES);
	return 0;
}
