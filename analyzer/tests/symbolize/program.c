/* Prints `in_leaf ADDRESS` and its own mappings. `leaf` calls `here` through an inlined function;
 * the barrier keeps that call from becoming a jump. The test knows the lines. */
#include <stdio.h>
#define KEEP __attribute__((noinline, noclone))
#define BARRIER __asm__ volatile("" ::: "memory")
KEEP static void *here(void) { BARRIER; return __builtin_return_address(0); }
static inline __attribute__((always_inline)) void *inner(void) { void *p = here(); BARRIER; return p; }
KEEP static void *leaf(void)
{
	void *p = inner();
	BARRIER;
	return p;
}
int main(void)
{
	char line[1024];
	FILE *maps = fopen("/proc/self/maps", "r");
	printf("in_leaf %p\n", leaf());
	while (maps && fgets(line, sizeof(line), maps))
		fputs(line, stdout);
	return 0;
}
