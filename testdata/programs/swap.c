/* Two threads put new blocks into shared slots and free what was there, at full speed: an address
 * freed by one thread is given to the other within nanoseconds. Order decides who owns it.
 *
 * swap [PAIRS]: malloc+free pairs of both threads together (default 1,000,000). They end at the same
 * time, so that the blocks left in the slots, which stay outstanding, are of both.
 */
#include "truth.h"

#include <pthread.h>
#include <stdlib.h>

enum { SLOTS = 64, FIRST_SIZE = 48, SECOND_SIZE = 80 };

/* The block says whose it is. */
struct block {
	long owner;
};

static struct site sites[] = {
	{ "swap_first", "heap", 0, 0 },
	{ "swap_second", "heap", 0, 0 },
};

static struct block *slots[SLOTS];
static long pairs_left = 1000000;

/* A random slot; xorshift, one state a thread. */
static unsigned long next_slot(unsigned long *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % SLOTS;
}

static int another_pair(void)
{
	return __atomic_fetch_sub(&pairs_left, 1, __ATOMIC_RELAXED) > 0;
}

static void put(struct block *block, long owner, unsigned long slot)
{
	if (block == NULL)
		abort();
	block->owner = owner;
	free(__atomic_exchange_n(&slots[slot], block, __ATOMIC_ACQ_REL));
}

SITE static void *swap_first(void *unused)
{
	unsigned long state = 88172645463325252ul;

	(void)unused;
	while (another_pair())
		put(malloc(FIRST_SIZE), 0, next_slot(&state));
	return NULL;
}

SITE static void *swap_second(void *unused)
{
	unsigned long state = 362436069362436069ul;

	(void)unused;
	while (another_pair())
		put(malloc(SECOND_SIZE), 1, next_slot(&state));
	return NULL;
}

int main(int count, char **arguments)
{
	pthread_t first, second;

	if (count > 1)
		pairs_left = strtol(arguments[1], NULL, 10);
	truth_begin();
	if (pthread_create(&first, NULL, swap_first, NULL) != 0 || pthread_create(&second, NULL, swap_second, NULL) != 0)
		abort();
	if (pthread_join(first, NULL) != 0 || pthread_join(second, NULL) != 0)
		abort();
	for (int i = 0; i < SLOTS; i++)
		if (slots[i] != NULL)
			truth_allocated(&sites[slots[i]->owner], slots[i]->owner == 0 ? FIRST_SIZE : SECOND_SIZE);
	truth_end("swap", sites, 2);
	return 0;
}
