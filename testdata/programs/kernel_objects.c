/* Makes objects in the kernel, holds them, closes them, with a round for each kind: N of them.
 *
 * Driven by truth.h's signals: SIGUSR1 makes them, the next one closes them. The kernel's part is
 * told by kind and number; how many objects each one is, the test knows.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "truth.h"

#define MOST 4096

static int descriptors[2 * MOST];
static int count;

static void keep(int descriptor)
{
	if (descriptor < 0)
		abort();
	descriptors[count++] = descriptor;
}

static void make(const char *kind, int number)
{
	for (int i = 0; i < number; i++) {
		int pair[2];

		if (!strcmp(kind, "eventfd")) {
			keep(eventfd(0, 0));
		} else if (!strcmp(kind, "file")) {
			keep(open("/proc/self/exe", O_RDONLY));
		} else if (!strcmp(kind, "socket")) {
			keep(socket(AF_UNIX, SOCK_STREAM, 0));
		} else if (!strcmp(kind, "pipe")) {
			if (pipe(pair))
				abort();
			keep(pair[0]);
			keep(pair[1]);
		} else {
			abort();
		}
	}
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "eventfd";
	int number = argc > 2 ? atoi(argv[2]) : 100;
	size_t length = (size_t)number * 4096;
	struct rlimit most = {3 * MOST, 3 * MOST};
	char *pages = 0;
	int duplicate;

	if (number < 1 || number > MOST || setrlimit(RLIMIT_NOFILE, &most))
		return 1;
	/* the table of descriptors grows before anything is counted */
	duplicate = fcntl(1, F_DUPFD, 2 * MOST + 16);
	if (duplicate < 0)
		return 1;
	truth_begin();
	if (!strcmp(kind, "pages")) {
		pages = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (pages == MAP_FAILED || madvise(pages, length, MADV_NOHUGEPAGE))
			return 1;
		for (size_t at = 0; at < length; at += 4096)
			pages[at] = 1;
	} else {
		make(kind, number);
	}
	truth_tell("kernel_objects", 0, 0);
	if (!truth_done())
		return 0;
	for (int i = 0; i < count; i++)
		close(descriptors[i]);
	if (pages)
		munmap(pages, length);
	truth_say("closed\n");
	return truth_done();
}
