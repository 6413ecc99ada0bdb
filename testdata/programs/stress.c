/* stress BLOCKS PAIRS RATE: blocks of random sizes, each replaced at a random moment; for benchmarks.
 *
 * BLOCKS  blocks live at once
 * PAIRS   malloc+free pairs; 0: until SIGTERM
 * RATE    pairs a second; 0: as many as possible
 *
 * Sizes are 16 to 4,111 bytes, small ones more often: as many between 16 and 32 as between 2,048 and 4,096.
 */
#include "truth.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { BATCHES_PER_SECOND = 1000, FULL_SPEED_BATCH = 10000, SECOND = 1000000000 };

static struct site site = { "replace", "heap", 0, 0 };

struct block {
	void *memory;
	size_t size;
};

static unsigned long state = 88172645463325252ul;

/* xorshift */
static unsigned long next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static size_t next_size(void)
{
	unsigned long bits = next_random();

	return (16ul << (bits & 7)) + (bits >> 8) % (16ul << (bits & 7));
}

SITE static void replace(struct block *block)
{
	if (block->memory != NULL) {
		free(block->memory);
		truth_freed(&site, block->size);
	}
	block->size = next_size();
	block->memory = malloc(block->size);
	if (block->memory == NULL)
		abort();
	truth_allocated(&site, block->size);
}

static int terminated(void)
{
	sigset_t set;

	return sigpending(&set) == 0 && sigismember(&set, SIGTERM);
}

static long now(void)
{
	struct timespec time;

	if (clock_gettime(CLOCK_MONOTONIC, &time) != 0)
		abort();
	return time.tv_sec * SECOND + time.tv_nsec;
}

static long argument(char **arguments, int index, long least)
{
	char *end = NULL;
	long value = strtol(arguments[index], &end, 10);

	if (end == arguments[index] || *end != 0 || value < least) {
		truth_say("usage: stress BLOCKS PAIRS RATE\n");
		exit(2);
	}
	return value;
}

int main(int count, char **arguments)
{
	if (count != 4) {
		truth_say("usage: stress BLOCKS PAIRS RATE\n");
		return 2;
	}
	unsigned long blocks = (unsigned long)argument(arguments, 1, 1);
	long pairs = argument(arguments, 2, 0);
	long rate = argument(arguments, 3, 0);
	struct block *all = calloc(blocks, sizeof(*all));
	long batch = rate > 0 ? (rate + BATCHES_PER_SECOND - 1) / BATCHES_PER_SECOND : FULL_SPEED_BATCH;
	long made = 0;

	if (all == NULL)
		abort();
	truth_begin();
	long start = now();

	while ((pairs == 0 && !terminated()) || made < pairs) {
		long next = pairs > 0 && pairs - made < batch ? pairs - made : batch;

		for (long i = 0; i < next; i++)
			replace(&all[next_random() % blocks]);
		made += next;
		if (rate > 0) {
			long due = start + (long)((double)made / (double)rate * SECOND);
			struct timespec when = { due / SECOND, due % SECOND };

			while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
				;
		}
	}
	truth_end("stress", &site, 1);
	return 0;
}
