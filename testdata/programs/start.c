/* Started by the recorder: it allocates in a constructor and in main, tells its truth, and is gone
 * within some milliseconds, with a status of its own. Nothing waits for anybody.
 *
 * start [STATUS]; a negative one is the signal by which it ends.
 */
#include "truth.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct site sites[] = {
	{ "in_constructor", "heap", 0, 0 },
	{ "in_main", "heap", 0, 0 },
};
static void *kept[7];

SITE __attribute__((constructor)) static void in_constructor(void)
{
	for (int i = 0; i < 3; i++) {
		kept[i] = malloc(100);
		truth_allocated(&sites[0], 100);
	}
}

SITE static void in_main(void)
{
	for (int i = 3; i < 7; i++) {
		kept[i] = malloc(256);
		truth_allocated(&sites[1], 256);
	}
}

int main(int argc, char **argv)
{
	int status = argc > 1 ? atoi(argv[1]) : 0;

	in_main();
	truth_tell("start", sites, 2);
	if (status < 0)
		kill(getpid(), -status);
	_exit(status);
}
