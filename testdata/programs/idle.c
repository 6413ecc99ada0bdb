/* Allocates nothing for seconds: busy if it has an argument, else idle. With "opens" it has the kernel allocate. */
#include "truth.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

	truth_begin();
	for (double end = now() + 7; now() < end;)
		if (count == 1)
			nanosleep(&pause, NULL);
		else if (strcmp(arguments[1], "opens") == 0)
			close(open("/dev/null", O_RDONLY));
	truth_end("idle", none, 0);
	return 0;
}
