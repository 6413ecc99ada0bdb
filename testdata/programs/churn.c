/* churn DEPTH PAIRS RATE: malloc and free at a call depth, paced or at full speed.
 *
 * DEPTH  calls between main's round and malloc (1 …)
 * PAIRS  malloc+free pairs a round; 0: until SIGTERM
 * RATE   pairs a second; 0: as many as possible
 *
 * Each SIGUSR1 starts a round, so that one process can be measured before and while it is recorded.
 * After a round: {"pairs":…,"cpu_ns":…,"ns_per_pair":…} of the thread's CPU time, then the truth.
 */
#include "truth.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { BLOCK = 64, BATCHES_PER_SECOND = 1000, FULL_SPEED_BATCH = 10000, SECOND = 1000000000 };

static struct site site = { "churn", "heap", 0, 0 };

/* Nothing remains outstanding; the truth is told by the site's zeros. */
SITE static void churn(long pairs)
{
	for (long i = 0; i < pairs; i++) {
		void *volatile block = malloc(BLOCK);

		free(block);
	}
}

/* The addition after the call keeps every frame: a tail call would take it away. */
SITE static long descend(long depth, long pairs)
{
	if (depth <= 1) {
		churn(pairs);
		return 0;
	}
	return descend(depth - 1, pairs) + 1;
}

static long now(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time) != 0)
		abort();
	return time.tv_sec * SECOND + time.tv_nsec;
}

static int terminated(void)
{
	sigset_t set;

	return sigpending(&set) == 0 && sigismember(&set, SIGTERM);
}

/* Makes pairs in batches, each at its time, until there are enough. Returns how many. */
static long make_round(long depth, long pairs, long rate)
{
	long batch = rate > 0 ? rate / BATCHES_PER_SECOND : FULL_SPEED_BATCH;
	long start = now(CLOCK_MONOTONIC), made = 0;

	if (batch < 1)
		batch = 1;
	while ((pairs == 0 && !terminated()) || made < pairs) {
		long next = pairs > 0 && pairs - made < batch ? pairs - made : batch;

		descend(depth, next);
		made += next;
		if (rate > 0) {
			long due = start + (long)((double)made / (double)rate * SECOND);
			struct timespec when = { due / SECOND, due % SECOND };

			while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
				;
		}
	}
	return made;
}

static long argument(char **arguments, int index, long least)
{
	char *end = NULL;
	long value = strtol(arguments[index], &end, 10);

	if (end == arguments[index] || *end != 0 || value < least) {
		truth_say("usage: churn DEPTH PAIRS RATE\n");
		exit(2);
	}
	return value;
}

int main(int count, char **arguments)
{
	if (count != 4) {
		truth_say("usage: churn DEPTH PAIRS RATE\n");
		return 2;
	}
	long depth = argument(arguments, 1, 1);
	long pairs = argument(arguments, 2, 0);
	long rate = argument(arguments, 3, 0);
	int again;

	truth_begin();
	do {
		char line[160] = "";
		long start = now(CLOCK_THREAD_CPUTIME_ID);
		long made = make_round(depth, pairs, rate);
		long cpu = now(CLOCK_THREAD_CPUTIME_ID) - start;

		truth_text(line, sizeof(line), "{\"pairs\":");
		truth_number(line, sizeof(line), made);
		truth_text(line, sizeof(line), ",\"cpu_ns\":");
		truth_number(line, sizeof(line), cpu);
		truth_text(line, sizeof(line), ",\"ns_per_pair\":");
		truth_number(line, sizeof(line), made > 0 ? cpu / made : 0);
		truth_text(line, sizeof(line), "}\n");
		truth_say(line);
		truth_tell("churn", &site, 1);
		again = truth_done();
	} while (again);
	return 0;
}
