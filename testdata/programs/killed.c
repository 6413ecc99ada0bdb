/* Threads that allocate at full speed until the process is killed, and one that is done: its blocks
 * are outstanding, to the byte. */
#include "truth.h"

#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 3, BLOCKS = 1000, SIZE = 130 };

static struct site site = { "is_done", "heap", 0, 0 };
static void *volatile kept;

SITE static void is_done(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		kept = malloc(SIZE);
		if (kept == NULL)
			abort();
		truth_allocated(&site, SIZE);
	}
}

SITE static void *never_done(void *unused)
{
	for (;;)
		free(malloc(70));
	return unused;
}

/* killed: by a signal; killed exit: by itself, while the others are at it. */
int main(int count, char **arguments)
{
	pthread_t thread;

	(void)arguments;
	truth_begin();
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, never_done, NULL) != 0)
			abort();
	is_done();
	truth_tell("killed", &site, 1);
	truth_done();
	if (count > 1)
		exit(0);
	for (;;)
		truth_done();
}
