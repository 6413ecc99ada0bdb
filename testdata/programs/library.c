/* What dlopen.c opens. Built twice: KEEPS and BEGINS are functions' names, SIZE the bytes of each block. */
#include <stdlib.h>

void BEGINS(void);
void KEEPS(void);

/* Runs before dlopen returns. */
__attribute__((constructor, noinline)) void BEGINS(void)
{
	/* Volatile: nobody can see these blocks, so the compiler would leave them out. */
	void *volatile block = malloc(SIZE);

	(void)block;
}

__attribute__((noinline)) void KEEPS(void)
{
	for (int i = 0; i < 3; i++) {
		void *volatile block = malloc(SIZE);

		(void)block;
	}
}
