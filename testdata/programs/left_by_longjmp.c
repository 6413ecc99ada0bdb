/* Calls that never return: a handler jumps out of the middle of them. What the thread allocates next
 * must be recorded, wherever on the stack it is called: by the same function in the same place, by
 * another one there, deeper, with the old return address still lying in an unused buffer, and above.
 *
 * posix_memalign writes its result to a page that is not there: SIGSEGV inside of the call, each time.
 */
#include "truth.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ROUNDS = 20, SIZE = 300 };

enum { SAME_FUNCTION, OTHER_FUNCTION, DEEPER, UNTOUCHED, ABOVE, BY_MMAP, FREED, SITES };

static struct site sites[SITES] = {
	[SAME_FUNCTION] = { "same_function", "heap", 0, 0 },
	[OTHER_FUNCTION] = { "other_function", "heap", 0, 0 },
	[DEEPER] = { "called_deeper", "heap", 0, 0 },
	[UNTOUCHED] = { "over_an_unused_buffer", "heap", 0, 0 },
	[ABOVE] = { "main", "heap", 0, 0 },
	[BY_MMAP] = { "by_mmap", "mapping", 0, 0 },
	[FREED] = { "freed_after_the_jump", "heap", 0, 0 },
};

static sigjmp_buf before;
static void **no_page;
static void *volatile kept;

static void jump_out(int signal)
{
	(void)signal;
	siglongjmp(before, 1);
}

static void keep(int site, void *block, size_t bytes)
{
	if (block == NULL || block == MAP_FAILED)
		abort();
	kept = block;
	truth_allocated(&sites[site], bytes);
}

/* The call that is left. */
#define LEAVE_A_CALL()                          \
	if (sigsetjmp(before, 1) == 0) {        \
		posix_memalign(no_page, 64, 1); \
		abort();                        \
	}

SITE static void same_function(void)
{
	void *block = NULL;

	LEAVE_A_CALL();
	if (posix_memalign(&block, 64, SIZE) != 0)
		abort();
	keep(SAME_FUNCTION, block, SIZE);
}

SITE static void other_function(void)
{
	LEAVE_A_CALL();
	keep(OTHER_FUNCTION, calloc(1, SIZE), SIZE);
	LEAVE_A_CALL();
	keep(OTHER_FUNCTION, malloc(SIZE), SIZE);
}

SITE static void called_deeper(void)
{
	keep(DEEPER, malloc(SIZE), SIZE);
}

SITE static void between(void)
{
	LEAVE_A_CALL();
	called_deeper();
	called_deeper();
}

/* What is left lies within this buffer. */
SITE static void over_an_unused_buffer(void)
{
	char buffer[8192];

	keep(UNTOUCHED, malloc(SIZE), SIZE);
	__asm__ volatile("" : : "r"(buffer) : "memory");
}

SITE static void leaves_and_returns(int depth)
{
	char buffer[500];

	__asm__ volatile("" : : "r"(buffer) : "memory");
	if (depth > 0)
		leaves_and_returns(depth - 1);
	else if (posix_memalign(no_page, 64, 1) == 0)
		abort();
}

SITE static void by_mmap(void)
{
	LEAVE_A_CALL();
	keep(BY_MMAP, mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
}

SITE static void freed_after_the_jump(void)
{
	void *block = malloc(SIZE);

	keep(FREED, block, SIZE);
	LEAVE_A_CALL();
	free(block);
	truth_freed(&sites[FREED], SIZE);
}

int main(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = jump_out;
	if (sigaction(SIGSEGV, &action, NULL) != 0)
		abort();
	no_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (no_page == MAP_FAILED)
		abort();
	truth_begin();
	for (int round = 0; round < ROUNDS; round++) {
		same_function();
		other_function();
		between();
		if (sigsetjmp(before, 1) == 0)
			leaves_and_returns(round % 12);
		over_an_unused_buffer();
		if (sigsetjmp(before, 1) == 0)
			leaves_and_returns(round % 12);
		keep(ABOVE, malloc(SIZE), SIZE);
		by_mmap();
		freed_after_the_jump();
	}
	truth_end("left_by_longjmp", sites, SITES);
	return 0;
}
