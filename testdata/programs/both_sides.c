/* Takes memory on both sides of the system call in turns: N blocks of the heap and N eventfds, each eventfd behind its
 * block, and a pipe with every fourth; all of that is held. As many blocks and eventfds come and go between them.
 *
 * `both_sides N child` does it in a child, which lives until this process ends.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "truth.h"

enum { MOST = 4096, BLOCK_SIZE = 300 };

static struct site held = { "holds_a_block", "heap", 0, 0 };
static void *blocks[MOST];

SITE static void holds_a_block(int i)
{
	blocks[i] = malloc(BLOCK_SIZE);
	truth_allocated(&held, BLOCK_SIZE);
}

SITE static void holds_an_eventfd(void)
{
	if (eventfd(0, 0) < 0)
		abort();
}

SITE static void holds_a_pipe(void)
{
	int ends[2];

	if (pipe(ends))
		abort();
}

SITE static void comes_and_goes(void)
{
	void *block = malloc(BLOCK_SIZE);
	int descriptor = eventfd(0, 0);

	close(descriptor);
	free(block);
}

/* One processor does all, so that what it frees after a grace period waits in one queue. */
static void stay_on_one_processor(void)
{
	cpu_set_t only;
	int processor = sched_getcpu();

	CPU_ZERO(&only);
	if (processor < 0)
		abort();
	CPU_SET(processor, &only);
	if (sched_setaffinity(0, sizeof only, &only))
		abort();
}

/* Linux before 6.7 frees a closed file after a grace period (file_free_rcu). This call waits for one, behind the files
 * in the queue: they are freed when it returns, and the recording may end. */
static void wait_for_delayed_frees(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		abort();
}

static void work(int number)
{
	stay_on_one_processor();
	for (int i = 0; i < number; i++) {
		holds_a_block(i);
		holds_an_eventfd();
		if (i % 4 == 0)
			holds_a_pipe();
		comes_and_goes();
	}
	wait_for_delayed_frees();
	truth_tell("both_sides", &held, 1);
}

int main(int argc, char **argv)
{
	int number = argc > 1 ? atoi(argv[1]) : 100;
	struct rlimit most = { 3 * MOST, 3 * MOST };
	int ends[2];
	char byte;
	pid_t child;

	if (number < 1 || number > MOST || setrlimit(RLIMIT_NOFILE, &most) || pipe(ends))
		return 1;
	/* the table of descriptors grows before anything is counted */
	if (fcntl(1, F_DUPFD, 2 * MOST + 16) < 0)
		return 1;
	truth_begin();
	if (argc < 3) {
		work(number);
		return truth_done();
	}
	child = fork();
	if (child < 0)
		return 1;
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work(number);
		close(ends[0]);
		if (write(ends[1], "", 1) != 1)
			return 1;
		for (;;)
			pause();
	}
	if (read(ends[0], &byte, 1) != 1)
		return 1;
	return truth_done();
}
