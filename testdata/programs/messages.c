/* Two threads, each on a CPU of its own, send each other N messages in turns: what the kernel allocates for a message
 * on one CPU, it frees on the other, and often for the next message at the same address.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "truth.h"

static int ends[2];
static int number;

/* The CPU with this place among those that may be used. */
static void stay_on_cpu(int place)
{
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) || CPU_COUNT(&allowed) < 2)
		abort();
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && place-- == 0)
			CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		abort();
}

static void send_one(int end)
{
	if (send(end, "message", 7, 0) != 7)
		abort();
}

static void receive_one(int end)
{
	char text[8];

	while (recv(end, text, sizeof(text), MSG_DONTWAIT) != 7)
		if (errno != EAGAIN)
			abort();
}

static void *answer(void *unused)
{
	stay_on_cpu(1);
	for (int i = 0; i < number; i++) {
		receive_one(ends[1]);
		send_one(ends[1]);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t other;

	number = argc > 1 ? atoi(argv[1]) : 1000;
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends))
		return 1;
	truth_begin();
	if (pthread_create(&other, 0, answer, 0))
		return 1;
	stay_on_cpu(0);
	for (int i = 0; i < number; i++) {
		send_one(ends[0]);
		receive_one(ends[0]);
	}
	pthread_join(other, 0);
	truth_end("messages", 0, 0);
	return 0;
}
