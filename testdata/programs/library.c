/* What programs open. KEEPS is the function's name, BEGINS a constructor's if it has one, SIZE the bytes of
 * each block. */
#include <stdlib.h>

void KEEPS(void);

#ifdef BEGINS
void BEGINS(void);

/* Runs before dlopen returns. */
__attribute__((constructor, noinline)) void BEGINS(void)
{
	/* Volatile: nobody can see these blocks, so the compiler would leave them out. */
	void *volatile block = malloc(SIZE);

	(void)block;
}
#endif

__attribute__((noinline)) void KEEPS(void)
{
	for (int i = 0; i < 3; i++) {
		/* Volatile: nobody can see these blocks, so the compiler would leave them out. */
		void *volatile block = malloc(SIZE);

		(void)block;
	}
}
