/* Functions that end with the call: the return address is the first byte of the next function, and
 * yet the stack names the one that called. */
#include "truth.h"

#include <setjmp.h>
#include <stdlib.h>

enum { ROUNDS = 5 };

enum { LAST, SITES };

static struct site sites[SITES] = {
	[LAST] = { "never_returns", "heap", 0, 0 },
};

static jmp_buf back;
static void *volatile kept;

SITE static _Noreturn void never_returns(size_t size)
{
	kept = malloc(size);
	truth_allocated(&sites[LAST], size);
	longjmp(back, 1);
}

SITE static _Noreturn void ends_with_the_call(void)
{
	never_returns(33);
}

SITE static _Noreturn void ends_with_a_call_too(void)
{
	never_returns(44);
}

int main(void)
{
	truth_begin();
	for (volatile int i = 0; i < ROUNDS; i++) {
		if (setjmp(back) == 0)
			ends_with_the_call();
		if (setjmp(back) == 0)
			ends_with_a_call_too();
	}
	truth_end("last_call", sites, SITES);
	return 0;
}
