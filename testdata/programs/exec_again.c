/* Executes itself: the blocks of the first image are gone with its address space, which is no leak;
 * those of the second are outstanding. */
#include "truth.h"

#include <stdlib.h>
#include <unistd.h>

enum { BEFORE = 5, AFTER = 7, SIZE = 800 };

static struct site site = { "after_exec", "heap", 0, 0 };

static void *kept[BEFORE + AFTER];

SITE static void before_exec(void)
{
	for (int i = 0; i < BEFORE; i++)
		kept[i] = malloc(SIZE);
}

SITE static void after_exec(void)
{
	for (int i = 0; i < AFTER; i++) {
		kept[BEFORE + i] = malloc(SIZE);
		truth_allocated(&site, SIZE);
	}
}

int main(int argc, char **argv)
{
	if (argc == 1) {
		truth_begin();
		before_exec();
		execl("/proc/self/exe", argv[0], "again", (char *)NULL);
		return 1;
	}
	after_exec();
	truth_end("exec_again", &site, 1);
	return 0;
}
