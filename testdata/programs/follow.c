/* Processes that begin other processes. Each tells what it holds, and its pid as its name:
 *
 *   follow MODE [wait]   with `wait`, it is driven as the other programs are
 *
 *   fork       a child frees what it has inherited, and allocates
 *   vfork      a child allocates in the parent's memory, then executes a leaf
 *   chain      executes itself three times; what the last one holds is what is left
 *   thread     a thread that is not the first executes a leaf
 *   prefork    fifty workers live at once
 *   many       twenty children, one after the other
 *   leaf       allocates
 */
#define _GNU_SOURCE
#include "truth.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 50, CHILDREN = 20, INHERITED = 4, SIZE = 300 };

static struct site parent_site = { "parent_keeps", "heap", 0, 0 };
static struct site child_site = { "child_keeps", "heap", 0, 0 };
static struct site vfork_site = { "vfork_child_keeps", "heap", 0, 0 };
static struct site leaf_site = { "leaf_keeps", "heap", 0, 0 };
static void *volatile inherited[INHERITED];
static void *volatile kept;

static void tell(const struct site *sites, size_t count)
{
	char name[32] = "";

	truth_number(name, sizeof(name), getpid());
	truth_tell(name, sites, count);
}

SITE static void parent_keeps(void)
{
	for (int i = 0; i < INHERITED; i++) {
		inherited[i] = malloc(SIZE);
		truth_allocated(&parent_site, SIZE);
	}
}

SITE static void child_keeps(int blocks)
{
	for (int i = 0; i < blocks; i++) {
		kept = malloc(SIZE + i);
		truth_allocated(&child_site, SIZE + i);
	}
}

SITE static void vfork_child_keeps(void)
{
	kept = malloc(SIZE);
	truth_allocated(&vfork_site, SIZE);
}

SITE static void leaf_keeps(int blocks)
{
	for (int i = 0; i < blocks; i++) {
		kept = malloc(SIZE);
		truth_allocated(&leaf_site, SIZE);
	}
}

static void execute(const char *mode)
{
	execl("/proc/self/exe", "follow", mode, (char *)NULL);
	abort();
}

static void wait_for_children(void)
{
	int status;

	while (wait(&status) > 0)
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			abort();
}

/* What a child does: gives back half of what it has inherited, keeps its own. */
static void child(int blocks)
{
	for (int i = 0; i < INHERITED / 2; i++)
		free(inherited[i]);
	child_keeps(blocks);
	tell(&child_site, 1);
	_exit(0);
}

static void many(int count, int at_once)
{
	int start[2];
	char byte;

	parent_keeps();
	if (pipe(start) != 0)
		abort();
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			abort();
		if (pid == 0) {
			close(start[1]);
			/* the end of the pipe: every worker is there */
			if (at_once && read(start[0], &byte, 1) != 0)
				abort();
			child(i % 5 + 1);
		}
		if (!at_once)
			wait_for_children();
	}
	close(start[1]);
	wait_for_children();
	tell(&parent_site, 1);
}

static void vfork_and_exec(void)
{
	const struct site *sites[] = { &parent_site, &vfork_site };
	struct site both[2];

	parent_keeps();
	if (vfork() == 0) {
		vfork_child_keeps();
		execl("/proc/self/exe", "follow", "leaf", (char *)NULL);
		_exit(1);
	}
	wait_for_children();
	for (int i = 0; i < 2; i++)
		both[i] = *sites[i];
	tell(both, 2);
}

static void *in_thread(void *unused)
{
	(void)unused;
	execute("leaf");
	return NULL;
}

static void thread(void)
{
	pthread_t other;

	parent_keeps();
	if (pthread_create(&other, NULL, in_thread, NULL) != 0)
		abort();
	for (;;)
		pause();
}

static void run(const char *mode)
{
	if (strcmp(mode, "fork") == 0) {
		many(1, 0);
	} else if (strcmp(mode, "vfork") == 0) {
		vfork_and_exec();
	} else if (strcmp(mode, "chain") == 0) {
		leaf_keeps(1);
		execute("chain2");
	} else if (strcmp(mode, "chain2") == 0) {
		leaf_keeps(2);
		execute("leaf");
	} else if (strcmp(mode, "thread") == 0) {
		thread();
	} else if (strcmp(mode, "prefork") == 0) {
		many(WORKERS, 1);
	} else if (strcmp(mode, "many") == 0) {
		many(CHILDREN, 0);
	} else if (strcmp(mode, "leaf") == 0) {
		leaf_keeps(3);
		tell(&leaf_site, 1);
	} else {
		truth_say("no such mode\n");
		_exit(2);
	}
}

int main(int argc, char **argv)
{
	if (argc > 2)
		truth_begin();
	run(argc > 1 ? argv[1] : "fork");
	_exit(0);
}
