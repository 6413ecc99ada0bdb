/* What dlopen.c opens. Built twice: KEEPS is the function's name, SIZE the bytes of each block. */
#include <stdlib.h>

void KEEPS(void);

__attribute__((noinline)) void KEEPS(void)
{
	for (int i = 0; i < 3; i++) {
		/* Volatile: nobody can see these blocks, so the compiler would leave them out. */
		void *volatile block = malloc(SIZE);

		(void)block;
	}
}
