/* Preloaded into the recorder: notes every write to a trace, so that a test can tell what a disk held when
 * the power was cut. Each call on a file whose name ends in .parquet is appended to the file named by
 * MEMLEAK_WRITE_LOG: a letter (w write, t truncate, s sync), offset and length (8 bytes each, as the machine
 * has them), and the bytes of a write. The call itself is done as asked.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int log_file = -1;

/* Only the recorder's encoder writes traces: no two threads are here at once. */
static int is_trace(int file)
{
	char link[64], path[4096];
	const char *name = getenv("MEMLEAK_WRITE_LOG");

	if (name == NULL)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
	ssize_t length = readlink(link, path, sizeof(path) - 1);

	if (length < 8 || memcmp(path + length - 8, ".parquet", 8) != 0)
		return 0;
	if (log_file < 0)
		log_file = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return log_file >= 0;
}

static void note(char what, uint64_t offset, uint64_t length, const void *bytes)
{
	char head[1 + 16];

	head[0] = what;
	memcpy(head + 1, &offset, 8);
	memcpy(head + 9, &length, 8);
	if (write(log_file, head, sizeof(head)) != sizeof(head))
		abort();
	if (bytes != NULL && write(log_file, bytes, length) != (ssize_t)length)
		abort();
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset)
{
	ssize_t done = syscall(SYS_pwrite64, file, bytes, length, offset);

	if (done > 0 && is_trace(file))
		note('w', (uint64_t)offset, (uint64_t)done, bytes);
	return done;
}

int ftruncate64(int file, off64_t length)
{
	int result = (int)syscall(SYS_ftruncate, file, length);

	if (result == 0 && is_trace(file))
		note('t', (uint64_t)length, 0, NULL);
	return result;
}

int fdatasync(int file)
{
	int result = (int)syscall(SYS_fdatasync, file);

	if (result == 0 && is_trace(file))
		note('s', 0, 0, NULL);
	return result;
}
