/* Threads that end in the midst of an allocation call: cancelled, or by pthread_exit out of a handler.
 * What their cleanup handlers and destructors allocate and free on the way out is recorded; and so is
 * what threads do afterwards that get the same stacks.
 */
#define _GNU_SOURCE
#include "truth.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 10, SIZE = 150 };

enum { CLEANUP, DESTRUCTOR, SUCCESSOR, BEFORE, SITES };

static struct site sites[SITES] = {
	[CLEANUP] = { "cleans_up", "heap", 0, 0 },
	[DESTRUCTOR] = { "destroys", "heap", 0, 0 },
	[SUCCESSOR] = { "succeeds", "heap", 0, 0 },
	[BEFORE] = { "freed_on_the_way_out", "heap", 0, 0 },
};

static void **no_page;
static pthread_key_t key;
static sem_t inside;
static void *volatile kept;

static void must(int right)
{
	if (!right)
		abort();
}

/* malloc is called in each site itself. */
#define KEEP(site)                                     \
	do {                                           \
		kept = malloc(SIZE);                   \
		must(kept != NULL);                    \
		truth_allocated(&sites[site], SIZE);   \
	} while (0)

SITE static void cleans_up(void *block)
{
	KEEP(CLEANUP);
	KEEP(CLEANUP);
	free(block);
	truth_freed(&sites[BEFORE], SIZE);
}

SITE static void destroys(void *unused)
{
	(void)unused;
	KEEP(DESTRUCTOR);
}

/* In the midst of posix_memalign. */
static void on_fault(int signal)
{
	(void)signal;
	must(sem_post(&inside) == 0);
	for (;;)
		pause(); /* to be cancelled here */
}

static void exit_on_fault(int signal)
{
	(void)signal;
	pthread_exit(NULL);
}

SITE static void *freed_on_the_way_out(void *unused)
{
	void *block = malloc(SIZE);

	must(block != NULL);
	truth_allocated(&sites[BEFORE], SIZE);
	must(pthread_setspecific(key, block) == 0);
	pthread_cleanup_push(cleans_up, block);
	posix_memalign(no_page, 64, 1);
	abort();
	pthread_cleanup_pop(0);
	return unused;
}

SITE static void *succeeds(void *unused)
{
	KEEP(SUCCESSOR);
	KEEP(SUCCESSOR);
	return unused;
}

static void run(void *(*function)(void *), int cancel)
{
	pthread_t thread;

	must(pthread_create(&thread, NULL, function, NULL) == 0);
	if (cancel) {
		must(sem_wait(&inside) == 0);
		must(pthread_cancel(thread) == 0);
	}
	must(pthread_join(thread, NULL) == 0);
}

static void handle(void (*handler)(int))
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	action.sa_flags = SA_NODEFER;
	must(sigaction(SIGSEGV, &action, NULL) == 0);
}

int main(void)
{
	no_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(no_page != MAP_FAILED);
	must(pthread_key_create(&key, destroys) == 0);
	must(sem_init(&inside, 0, 0) == 0);
	truth_begin();
	for (int i = 0; i < ROUNDS; i++) {
		handle(on_fault);
		run(freed_on_the_way_out, 1);
		run(succeeds, 0);
		handle(exit_on_fault);
		run(freed_on_the_way_out, 0);
		run(succeeds, 0);
	}
	truth_end("cancelled", sites, SITES);
	return 0;
}
