/* many_stacks DEPTH ROUNDS: 2^DEPTH distinct stacks, each taken once a round; every block is kept. */
#include "truth.h"

#include <stdlib.h>

static struct site site = { "allocates", "heap", 0, 0 };
static void *volatile kept;

SITE static void allocates(size_t size)
{
	kept = malloc(size);
	if (kept == NULL)
		abort();
	truth_allocated(&site, size);
}

SITE static void right(int depth, unsigned path);

/* Each step goes one of two ways: the stack is the path. */
SITE static void left(int depth, unsigned path)
{
	if (depth == 0)
		allocates(16 + path % 100);
	else if (path >> (depth - 1) & 1)
		right(depth - 1, path);
	else
		left(depth - 1, path);
}

SITE static void right(int depth, unsigned path)
{
	if (depth == 0)
		allocates(16 + path % 100);
	else if (path >> (depth - 1) & 1)
		right(depth - 1, path);
	else
		left(depth - 1, path);
}

int main(int count, char **arguments)
{
	int depth = count > 1 ? atoi(arguments[1]) : 14;
	int rounds = count > 2 ? atoi(arguments[2]) : 2;

	truth_begin();
	for (int round = 0; round < rounds; round++)
		for (unsigned path = 0; path < 1u << depth; path++)
			left(depth, path);
	truth_end("many_stacks", &site, 1);
	return 0;
}
