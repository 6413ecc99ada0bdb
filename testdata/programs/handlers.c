/* Signal handlers that allocate while the thread is within an allocation call: their blocks are the
 * program's, and the interrupted call's block is, too.
 *
 * posix_memalign writes its result to a page that is read-only; the handler allocates, makes the page
 * writable and returns, and the call goes on. The same on a signal stack (below the interrupted one,
 * where the kernel's own bookkeeping of return probes allows it), and from a timer at random moments.
 */
#include "truth.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { PAGE = 4096, ROUNDS = 30, SIZE = 200, TICKS = 200 };

enum { INTERRUPTED, HANDLER, HANDLER_MAPS, NESTED_INTERRUPTED, TIMER, CHURN, SITES };

static struct site sites[SITES] = {
	[INTERRUPTED] = { "interrupted", "heap", 0, 0 },
	[HANDLER] = { "in_handler", "heap", 0, 0 },
	[HANDLER_MAPS] = { "maps_in_handler", "mapping", 0, 0 },
	[NESTED_INTERRUPTED] = { "interrupted_in_handler", "heap", 0, 0 },
	[TIMER] = { "in_timer", "mapping", 0, 0 },
	[CHURN] = { "churns", "heap", 0, 0 },
};

static void **result, **inner_result;
static void *volatile kept;
static volatile int ticks;

static void must(int right)
{
	if (!right)
		abort();
}

static void protect(void *page, int protection)
{
	must(mprotect(page, PAGE, protection) == 0);
}

SITE static void in_handler(void)
{
	kept = malloc(SIZE);
	must(kept != NULL);
	truth_allocated(&sites[HANDLER], SIZE);
	free(realloc(malloc(SIZE), 2 * SIZE));
}

SITE static void maps_in_handler(void)
{
	must(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	truth_allocated(&sites[HANDLER_MAPS], PAGE);
}

/* A call within the handler that is interrupted in its turn. */
SITE static void interrupted_in_handler(void)
{
	protect(inner_result, PROT_READ);
	must(posix_memalign(inner_result, 64, SIZE) == 0);
	truth_allocated(&sites[NESTED_INTERRUPTED], SIZE);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	in_handler();
	maps_in_handler();
	if (info->si_addr == result)
		interrupted_in_handler();
	protect(info->si_addr, PROT_READ | PROT_WRITE);
}

SITE static void interrupted(void)
{
	protect(result, PROT_READ);
	must(posix_memalign(result, 64, SIZE) == 0);
	truth_allocated(&sites[INTERRUPTED], SIZE);
}

/* mmap is a bare system call: safe whatever it interrupts. */
SITE static void in_timer(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info, (void)context;
	must(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	truth_allocated(&sites[TIMER], PAGE);
	ticks++;
}

/* Blocks above the threshold: most of the time is spent in the mmap within malloc. */
SITE static void churns(void)
{
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };

	must(setitimer(ITIMER_REAL, &often, NULL) == 0);
	while (ticks < TICKS) {
		void *block = malloc(300000), *other = calloc(3, 100);

		truth_allocated(&sites[CHURN], 300000);
		truth_allocated(&sites[CHURN], 300);
		free(block);
		free(other);
		truth_freed(&sites[CHURN], 300000);
		truth_freed(&sites[CHURN], 300);
	}
	must(setitimer(ITIMER_REAL, &never, NULL) == 0);
	kept = malloc(7);
	truth_allocated(&sites[CHURN], 7);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO | flags;
	must(sigaction(signal, &action, NULL) == 0);
}

int main(void)
{
	stack_t stack = { 0 };

	result = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	inner_result = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack.ss_size = 16 * PAGE;
	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(result != MAP_FAILED && inner_result != MAP_FAILED && stack.ss_sp != MAP_FAILED);
	truth_begin();
	handle(SIGSEGV, on_fault, SA_NODEFER);
	for (int i = 0; i < ROUNDS; i++)
		interrupted();
	must(sigaltstack(&stack, NULL) == 0);
	handle(SIGSEGV, on_fault, SA_NODEFER | SA_ONSTACK);
	for (int i = 0; i < ROUNDS; i++)
		interrupted();
	handle(SIGALRM, in_timer, SA_RESTART);
	churns();
	handle(SIGALRM, in_timer, SA_RESTART | SA_ONSTACK);
	ticks = 0;
	churns();
	truth_end("handlers", sites, SITES);
	return 0;
}
