/* brk and sbrk by the program itself, between allocations whose allocator moves the same break. */
#define _DEFAULT_SOURCE
#include "truth.h"

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { PAGE = 4096 };

enum { SBRK, SHRUNK, BRK, FAILED, MALLOC, SITES };

static struct site sites[SITES] = {
	[SBRK] = { "by_sbrk", "mapping", 0, 0 },
	[SHRUNK] = { "shrunk", "mapping", 0, 0 },
	[BRK] = { "by_brk", "mapping", 0, 0 },
	[FAILED] = { "failed", "mapping", 0, 0 },
	[MALLOC] = { "by_malloc", "heap", 0, 0 },
};

static void *volatile kept[512];
static int kept_count;

static void must(int right)
{
	if (!right)
		abort();
}

/* Bytes, not pages. */
SITE static void by_sbrk(void)
{
	must(sbrk(3 * PAGE + 100) != (void *)-1);
	truth_allocated(&sites[SBRK], 3 * PAGE + 100);
	must(sbrk(0) != (void *)-1); /* asks only */
}

/* A part of the same range is given back, by both functions. */
SITE static void shrunk(void)
{
	must(sbrk(10000) != (void *)-1);
	truth_allocated(&sites[SHRUNK], 10000);
	must(sbrk(-2500) != (void *)-1);
	must(brk((char *)sbrk(0) - 500) == 0);
	sites[SHRUNK].bytes -= 3000;
}

SITE static void by_brk(void)
{
	must(brk((char *)sbrk(0) + 2 * PAGE) == 0);
	truth_allocated(&sites[BRK], 2 * PAGE);
	must(brk(sbrk(0)) == 0); /* changes nothing */
}

SITE static void failed(void)
{
	must(sbrk(INTPTR_MAX) == (void *)-1);
	must(brk((void *)INTPTR_MAX) != 0);
}

/* More than the break's first piece holds: malloc moves it, which is none of the program's. */
SITE static void by_malloc(void)
{
	for (int i = 0; i < 100; i++) {
		kept[kept_count++] = malloc(5000);
		must(kept[kept_count - 1] != NULL);
		truth_allocated(&sites[MALLOC], 5000);
	}
}

int main(void)
{
	truth_begin();
	by_malloc();
	by_sbrk();
	by_malloc();
	shrunk();
	by_brk();
	failed();
	by_malloc();
	truth_end("program_break", sites, SITES);
	return 0;
}
