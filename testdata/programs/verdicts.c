/* verdicts BEHAVIOUR: holds memory in one known way over 3,000 steps, all of it from one call site.
 *
 * Every millisecond (later on a busy machine) a behaviour says what to do: how many blocks to take and forget (a leak), how
 * many to take and keep, and which of those kept to free. The table at the end lists them with the
 * class that test_verdicts.py expects.
 */
#include "truth.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEPT = 16384, STEPS = 3000, STEP_NS = 1000000 };

struct plan {
	int leak, keep;           /* blocks to take */
	size_t size;              /* of each */
	int oldest, any, all;     /* kept blocks to free: so many of the oldest, so many at random, or all */
	size_t grow;              /* reallocate the one kept block to this size */
};

static struct site site = { "take", "heap", 0, 0 };
static void *kept[KEPT];
static size_t sizes[KEPT];
static int first, count;
static unsigned seed = 1;

static int below(int limit)
{
	seed = seed * 1664525 + 1013904223;
	return (int)((seed >> 8) % (unsigned)limit);
}

/* Takes a block, or makes one larger: malloc's callers would be two sites otherwise. */
SITE static void *take(void *old, size_t size)
{
	return realloc(old, size);
}

static void drop(int index)
{
	truth_freed(&site, sizes[index]);
	free(kept[index]);
}

static void drop_oldest(void)
{
	drop(first);
	first = (first + 1) % KEPT;
	count--;
}

static void drop_any(void)
{
	int index = (first + below(count)) % KEPT, last = (first + count - 1) % KEPT;

	drop(index);
	kept[index] = kept[last];
	sizes[index] = sizes[last];
	count--;
}

static void keep(void *block, size_t size)
{
	int index = (first + count) % KEPT;

	kept[index] = block;
	sizes[index] = size;
	count++;
}

static void follow(const struct plan *plan)
{
	if (plan->grow > 0) {
		void *old = count > 0 ? kept[first] : NULL;

		if (old != NULL)
			truth_freed(&site, sizes[first]);
		count = 0;
		keep(take(old, plan->grow), plan->grow);
		truth_allocated(&site, plan->grow);
	}
	for (int i = 0; i < plan->leak + plan->keep && count < KEPT; i++) {
		void *block = take(NULL, plan->size);

		truth_allocated(&site, plan->size);
		if (i >= plan->leak)
			keep(block, plan->size);
	}
	for (int i = 0; i < plan->oldest && count > 0; i++)
		drop_oldest();
	for (int i = 0; i < plan->any && count > 0; i++)
		drop_any();
	while (plan->all && count > 0)
		drop_oldest();
}

/* Blocks that come and go, about `live` of them at a time. */
static void churn(struct plan *plan, int live)
{
	plan->size = 64;
	plan->keep = below(5);
	plan->any = count > live ? 4 : below(5);
}

/* The behaviours; `step` counts from 0, `share` is the part of the steps that has passed. */

static void leak(struct plan *p, int step, double share) { (void)step, (void)share; p->leak = 2, p->size = 100; }
static void slow_leak(struct plan *p, int step, double share) { (void)share; p->leak = step % 60 == 0, p->size = 100; }
static void leak_in_churn(struct plan *p, int step, double share) { (void)share; churn(p, 100); p->leak = step % 12 == 0; }
static void late_leak(struct plan *p, int step, double share) { (void)step; churn(p, 10); p->leak = share > 0.6; }
static void burst_leak(struct plan *p, int step, double share)
{
	static int bursts;

	(void)step;
	if (share * 7 < bursts)
		return;
	bursts++;
	p->leak = 100, p->size = 200;
}
static void leak_after_start(struct plan *p, int step, double share) { (void)share; p->leak = step == 0 ? 4000 : 1, p->size = 64; }
static void slow_consumer(struct plan *p, int step, double share) { (void)share; p->keep = 2, p->size = 80, p->oldest = 1 + step % 2; }
static void growing_buffer(struct plan *p, int step, double share) { (void)share; p->grow = step % 20 == 0 ? 1000 + (size_t)step * 100 : 0; }

static void fill_and_stop(struct plan *p, int step, double share) { (void)step; p->keep = share < 0.45, p->size = 500; }
static void lru(struct plan *p, int step, double share) { (void)step, (void)share; p->keep = 2, p->size = 500, p->oldest = count > 800 ? 2 : 0; }
static void half_filled_lru(struct plan *p, int step, double share)
{
	(void)step;
	p->keep = 1, p->size = 500, p->oldest = share > 0.5;
}
static void random_keys(struct plan *p, int step, double share)
{
	(void)share;
	p->size = 300;
	p->keep = below(600) >= count;
	p->oldest = step % 20 == 0 && count > 550;
}
static void stopped_leak(struct plan *p, int step, double share) { (void)step; churn(p, 60); p->leak = share < 0.4; }
/* More is given back than taken, and 20 are added below 400: without that pull it would be a random walk, which rises for
 * seconds by chance. */
static void pool(struct plan *p, int step, double share)
{
	(void)step, (void)share;
	churn(p, 500);
	p->keep = below(4);
	if (count < 400)
		p->keep = 20, p->any = 0;
}

static void start_up(struct plan *p, int step, double share) { (void)step; p->keep = share < 0.04 ? 5 : 0, p->size = 256; }
static void one_block(struct plan *p, int step, double share) { (void)share; p->leak = step == 0, p->size = 100000; }

static void batches(struct plan *p, int step, double share) { (void)share; p->keep = 3, p->size = 300, p->all = step % 250 > 200; }
static void short_lived(struct plan *p, int step, double share) { (void)step, (void)share; p->keep = 3, p->size = 300, p->all = 1; }

static const struct behaviour {
	const char *name;
	void (*plan)(struct plan *plan, int step, double share);
} behaviours[] = {
	/* growing */
	{ "leak", leak }, { "slow_leak", slow_leak }, { "leak_in_churn", leak_in_churn }, { "late_leak", late_leak },
	{ "burst_leak", burst_leak }, { "leak_after_start", leak_after_start }, { "slow_consumer", slow_consumer },
	{ "growing_buffer", growing_buffer },
	/* plateau */
	{ "fill_and_stop", fill_and_stop }, { "lru", lru }, { "half_filled_lru", half_filled_lru },
	{ "random_keys", random_keys }, { "stopped_leak", stopped_leak }, { "pool", pool },
	/* static */
	{ "start_up", start_up }, { "one_block", one_block },
	/* churn */
	{ "batches", batches }, { "short_lived", short_lived },
};

static void run(const struct behaviour *behaviour)
{
	struct timespec pause = { 0, STEP_NS };

	for (int step = 0; step < STEPS; step++) {
		struct plan plan = { 0 };

		behaviour->plan(&plan, step, (double)step / STEPS);
		follow(&plan);
		nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(behaviours) / sizeof(behaviours[0]); i++) {
		if (strcmp(behaviours[i].name, argv[1]) != 0)
			continue;
		truth_begin();
		run(&behaviours[i]);
		truth_end("verdicts", &site, 1);
		return 0;
	}
	truth_say("usage: verdicts BEHAVIOUR\n");
	return 2;
}
