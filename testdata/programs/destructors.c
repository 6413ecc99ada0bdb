/* What runs on the way out: destructors of thread-specific data, handlers of atexit, a destructor
 * function. Each allocates and frees; the truth is told from the last of them. */
#include "truth.h"

#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 5, SIZE = 90 };

enum { AT_THREAD_END, AT_EXIT, DESTRUCTOR, EARLY, SITES };

static struct site sites[SITES] = {
	[AT_THREAD_END] = { "at_thread_end", "heap", 0, 0 },
	[AT_EXIT] = { "at_exit", "heap", 0, 0 },
	[DESTRUCTOR] = { "at_the_very_end", "heap", 0, 0 },
	[EARLY] = { "uses_key", "heap", 0, 0 },
};

static pthread_key_t key;
static void *volatile kept;

#define KEEP(site)                                   \
	do {                                         \
		kept = malloc(SIZE);                 \
		if (kept == NULL)                    \
			abort();                     \
		truth_allocated(&sites[site], SIZE); \
	} while (0)

SITE static void at_thread_end(void *block)
{
	KEEP(AT_THREAD_END);
	free(block);
	truth_freed(&sites[EARLY], SIZE);
}

SITE static void at_exit(void)
{
	KEEP(AT_EXIT);
}

SITE static void __attribute__((destructor)) at_the_very_end(void)
{
	KEEP(DESTRUCTOR);
	truth_end("destructors", sites, SITES);
}

SITE static void *uses_key(void *unused)
{
	KEEP(EARLY);
	if (pthread_setspecific(key, kept) != 0)
		abort();
	return unused;
}

int main(void)
{
	pthread_t thread;

	if (pthread_key_create(&key, at_thread_end) != 0 || atexit(at_exit) != 0)
		abort();
	truth_begin();
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, uses_key, NULL) != 0 || pthread_join(thread, NULL) != 0)
			abort();
	return 0;
}
