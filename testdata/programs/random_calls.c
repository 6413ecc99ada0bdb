/* random_calls SEED: threads that do what a random number says, with the whole family of functions and
 * with each other's blocks. The truth is the program's own table of what it holds.
 */
#define _GNU_SOURCE
#include "truth.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { THREADS = 4, STEPS = 5000, SLOTS = 512, PAGE = 4096, PAGES = 32 };

/* One function for each way to allocate: they are the sites. */
enum { MALLOC, CALLOC, REALLOC, REALLOCARRAY, POSIX_MEMALIGN, ALIGNED_ALLOC, MEMALIGN, VALLOC, PVALLOC, STRDUP, MMAP, MREMAP, SITES };

static struct site sites[SITES] = {
	[MALLOC] = { "by_malloc", "heap", 0, 0 },
	[CALLOC] = { "by_calloc", "heap", 0, 0 },
	[REALLOC] = { "by_realloc", "heap", 0, 0 },
	[REALLOCARRAY] = { "by_reallocarray", "heap", 0, 0 },
	[POSIX_MEMALIGN] = { "by_posix_memalign", "heap", 0, 0 },
	[ALIGNED_ALLOC] = { "by_aligned_alloc", "heap", 0, 0 },
	[MEMALIGN] = { "by_memalign", "heap", 0, 0 },
	[VALLOC] = { "by_valloc", "heap", 0, 0 },
	[PVALLOC] = { "by_pvalloc", "heap", 0, 0 },
	[STRDUP] = { "by_strdup", "heap", 0, 0 },
	[MMAP] = { "by_mmap", "mapping", 0, 0 },
	[MREMAP] = { "by_mremap", "mapping", 0, 0 },
};

/* A block that any thread may take; a mapping that its thread alone cuts. */
struct slot {
	pthread_mutex_t busy;
	void *block;
	size_t bytes;
	int site;
};

/* A mapping and which of its pages are left. */
struct range {
	char *start;
	int site;
	unsigned pages; /* bits */
};

static struct slot slots[SLOTS];
static uint64_t seed;

static void must(int right)
{
	if (!right)
		abort();
}

static unsigned random_below(uint64_t *state, unsigned limit)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(*state >> 33) % limit;
}

/* Mostly small, now and then a mapping of its own. */
static size_t random_size(uint64_t *state)
{
	static const unsigned limits[] = { 1, 64, 64, 512, 512, 4096, 100000, 700000 };

	return random_below(state, limits[random_below(state, 8)]);
}

SITE static void *by_malloc(size_t bytes) { return malloc(bytes); }
SITE static void *by_calloc(size_t bytes) { return calloc(bytes, 1); }
SITE static void *by_realloc(void *old, size_t bytes) { return realloc(old, bytes); }
SITE static void *by_reallocarray(void *old, size_t bytes) { return reallocarray(old, bytes, 1); }
SITE static void *by_aligned_alloc(size_t bytes) { return aligned_alloc(128, bytes); }
SITE static void *by_memalign(size_t bytes) { return memalign(256, bytes); }
SITE static void *by_valloc(size_t bytes) { return valloc(bytes); }
SITE static void *by_pvalloc(size_t bytes) { return pvalloc(bytes); }
SITE static void *by_strdup(const char *text) { return strdup(text); }

SITE static void *by_posix_memalign(size_t bytes)
{
	void *block = NULL;

	must(posix_memalign(&block, 512, bytes) == 0);
	return block;
}

SITE static char *by_mmap(size_t bytes)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

SITE static char *by_mremap(char *old, size_t from, size_t to) { return mremap(old, from, to, MREMAP_MAYMOVE); }

static void fill(struct slot *slot, uint64_t *state)
{
	static const char text[] = "a text that is copied, of some length, as texts are";
	size_t bytes = random_size(state);

	slot->site = (int)random_below(state, STRDUP + 1);
	switch (slot->site) {
	case MALLOC: slot->block = by_malloc(bytes); break;
	case CALLOC: slot->block = by_calloc(bytes); break;
	case REALLOC: slot->block = by_realloc(NULL, bytes); break;
	case REALLOCARRAY: slot->block = by_reallocarray(NULL, bytes); break;
	case POSIX_MEMALIGN: slot->block = by_posix_memalign(bytes); break;
	case ALIGNED_ALLOC: slot->block = by_aligned_alloc(bytes); break;
	case MEMALIGN: slot->block = by_memalign(bytes); break;
	case VALLOC: slot->block = by_valloc(bytes); break;
	case PVALLOC: slot->block = by_pvalloc(bytes); break;
	default:
		bytes = random_below(state, sizeof(text) - 1);
		slot->block = by_strdup(text + bytes);
		bytes = sizeof(text) - bytes;
	}
	must(slot->block != NULL);
	slot->bytes = bytes;
	truth_allocated(&sites[slot->site], bytes);
}

static void empty(struct slot *slot)
{
	free(slot->block);
	truth_freed(&sites[slot->site], slot->bytes);
	slot->block = NULL;
}

/* To another size, to nothing, or to one that is refused. */
static void resize(struct slot *slot, uint64_t *state)
{
	size_t bytes = random_below(state, 8) == 0 ? 0 : 1 + random_size(state);
	int is_array = random_below(state, 2);
	void *block;

	if (random_below(state, 8) == 0) {
		must((is_array ? by_reallocarray : by_realloc)(slot->block, PTRDIFF_MAX) == NULL);
		return;
	}
	block = (is_array ? by_reallocarray : by_realloc)(slot->block, bytes);
	truth_freed(&sites[slot->site], slot->bytes);
	slot->block = block;
	if (bytes == 0)
		return;
	must(block != NULL);
	slot->bytes = bytes;
	slot->site = is_array ? REALLOCARRAY : REALLOC;
	truth_allocated(&sites[slot->site], bytes);
}

static void step_block(uint64_t *state)
{
	struct slot *slot = &slots[random_below(state, SLOTS)];

	must(pthread_mutex_lock(&slot->busy) == 0);
	if (slot->block == NULL)
		fill(slot, state);
	else if (random_below(state, 3) == 0)
		resize(slot, state);
	else
		empty(slot);
	must(pthread_mutex_unlock(&slot->busy) == 0);
}

/* `pages` more or less of what a site holds; the mapping counts as long as a page of it is left. */
static void range_lost(struct range *range, unsigned lost)
{
	lost &= range->pages;
	range->pages &= ~lost;
	__atomic_fetch_sub(&sites[range->site].bytes, (long)__builtin_popcount(lost) * PAGE, __ATOMIC_RELAXED);
	if (lost != 0 && range->pages == 0)
		__atomic_fetch_sub(&sites[range->site].count, 1, __ATOMIC_RELAXED);
}

static unsigned all(unsigned pages)
{
	return pages == 32 ? ~0u : (1u << pages) - 1;
}

static void step_range(struct range *range, uint64_t *state)
{
	unsigned first = random_below(state, PAGES), count = 1 + random_below(state, PAGES - first);
	unsigned cut = all(count) << first;

	if (range->pages == 0) {
		range->start = by_mmap(PAGES * PAGE);
		must(range->start != MAP_FAILED);
		range->pages = all(PAGES);
		range->site = MMAP;
		truth_allocated(&sites[MMAP], PAGES * PAGE);
	} else if (range->pages == all(PAGES) && random_below(state, 3) == 0) {
		char *moved;

		if (random_below(state, 3) == 0) {
			must(by_mremap(range->start + 1, PAGE, PAGE) == MAP_FAILED);
			return;
		}
		/* smaller, or as large as it was: in either case a new mapping in the ledger */
		moved = by_mremap(range->start, PAGES * PAGE, (size_t)count * PAGE);
		must(moved != MAP_FAILED);
		range_lost(range, all(PAGES));
		range->start = moved;
		range->pages = all(count);
		range->site = MREMAP;
		truth_allocated(&sites[MREMAP], (size_t)count * PAGE);
	} else if (random_below(state, 4) == 0) {
		must(munmap(range->start + 1, PAGE) != 0);
	} else if ((range->pages & cut) == cut) {
		/* only what is still ours: the gaps may be another thread's by now */
		must(munmap(range->start + first * PAGE, (size_t)count * PAGE) == 0);
		range_lost(range, cut);
	} else {
		for (unsigned page = 0; page < PAGES; page++)
			if (range->pages & 1u << page) {
				must(munmap(range->start + page * PAGE, PAGE) == 0);
				range_lost(range, 1u << page);
			}
	}
}

static void *takes_steps(void *number)
{
	uint64_t state = seed * 1000003 + (uintptr_t)number;
	struct range ranges[4] = { 0 };

	for (int i = 0; i < STEPS; i++)
		if (random_below(&state, 8) == 0)
			step_range(&ranges[random_below(&state, 4)], &state);
		else
			step_block(&state);
	return NULL;
}

int main(int count, char **arguments)
{
	pthread_t threads[THREADS];

	seed = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
	for (int i = 0; i < SLOTS; i++)
		must(pthread_mutex_init(&slots[i].busy, NULL) == 0);
	truth_begin();
	for (uintptr_t i = 0; i < THREADS; i++)
		must(pthread_create(&threads[i], NULL, takes_steps, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++)
		must(pthread_join(threads[i], NULL) == 0);
	truth_end("random_calls", sites, SITES);
	return 0;
}
