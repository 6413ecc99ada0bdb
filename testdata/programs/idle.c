/* Allocates nothing for seconds: busy if it has an argument, else idle. */
#include "truth.h"

#include <time.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
	const struct timespec pause = { 0, 50 * 1000 * 1000 };
	static struct site none[1];

	(void)arguments;
	truth_begin();
	for (double end = now() + 7; now() < end;)
		if (count == 1)
			nanosleep(&pause, NULL);
	truth_end("idle", none, 0);
	return 0;
}
