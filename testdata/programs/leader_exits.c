/* The main thread ends, the process lives on in another thread: probes that hang on the main thread
 * are gone then. Each round (SIGUSR1) allocates from the thread that is left.
 *
 * In the first round the main thread has just gone, so what is recorded of it is not told; the later
 * rounds are counted.
 */
#include "truth.h"

#include <pthread.h>
#include <stdlib.h>

enum { BLOCKS = 10, SIZE = 700 };

static struct site site = { "thread_that_stays", "heap", 0, 0 };

static void *kept[BLOCKS];

SITE static void thread_that_stays(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		kept[i] = malloc(SIZE);
		truth_allocated(&site, SIZE);
	}
}

static void *live_on(void *leader)
{
	if (pthread_join(*(pthread_t *)leader, NULL) != 0)
		abort();
	truth_tell("leader_exits", &site, 1);
	while (truth_done()) {
		thread_that_stays();
		truth_tell("leader_exits", &site, 1);
	}
	exit(0);
}

int main(void)
{
	static pthread_t leader;
	pthread_t thread;

	truth_begin();
	leader = pthread_self();
	if (pthread_create(&thread, NULL, live_on, &leader) != 0)
		abort();
	pthread_exit(NULL);
}
