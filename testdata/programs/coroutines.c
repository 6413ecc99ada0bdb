/* Coroutines on stacks of their own that take turns between allocations; one stack lies above the
 * other, one is a block of the heap. */
#include "truth.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { COROUTINES = 3, TURNS = 200, STACK = 64 * 1024, SIZE = 60 };

static struct site sites[COROUTINES] = {
	{ "first_coroutine", "heap", 0, 0 }, { "second_coroutine", "heap", 0, 0 }, { "third_coroutine", "heap", 0, 0 },
};

static ucontext_t contexts[COROUTINES], back;
static void *blocks[COROUTINES][TURNS];

static void next(int from)
{
	if (swapcontext(&contexts[from], &contexts[(from + 1) % COROUTINES]) != 0)
		abort();
}

/* Each allocates, gives the turn away, and frees what another one allocated. */
#define COROUTINE(name, number)                                              \
	SITE static void name(void)                                          \
	{                                                                    \
		for (int turn = 0; turn < TURNS; turn++) {                   \
			int other = (number + 1) % COROUTINES;               \
			void *block = realloc(malloc(10), SIZE);             \
                                                                             \
			blocks[number][turn] = block;                        \
			truth_allocated(&sites[number], SIZE);               \
			next(number);                                        \
			if (turn % 4 == 0 && blocks[other][turn] != NULL) {  \
				free(blocks[other][turn]);                   \
				blocks[other][turn] = NULL;                  \
				truth_freed(&sites[other], SIZE);            \
			}                                                    \
		}                                                            \
		next(number);                                                \
	}

COROUTINE(first_coroutine, 0)
COROUTINE(second_coroutine, 1)
COROUTINE(third_coroutine, 2)

static void prepare(int number, void *stack, void (*function)(void))
{
	if (stack == NULL || stack == MAP_FAILED || getcontext(&contexts[number]) != 0)
		abort();
	contexts[number].uc_stack.ss_sp = stack;
	contexts[number].uc_stack.ss_size = STACK;
	contexts[number].uc_link = &back;
	makecontext(&contexts[number], function, 0);
}

int main(void)
{
	char *both = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	prepare(0, both, first_coroutine);
	prepare(1, both + STACK, second_coroutine);
	prepare(2, malloc(STACK), third_coroutine);
	truth_begin();
	if (swapcontext(&back, &contexts[0]) != 0)
		abort();
	truth_end("coroutines", sites, COROUTINES);
	return 0;
}
