#include "truth.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Seconds after which a forgotten program ends by SIGALRM. */
enum { FORGOTTEN_AFTER = 900 };

static sigset_t protocol(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	return set;
}

void truth_say(const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		ssize_t written = write(STDOUT_FILENO, text, left);

		if (written < 0)
			_exit(3);
		text += written;
		left -= (size_t)written;
	}
}

/* Waits for SIGUSR1 (1) or SIGTERM (0). */
static int wait_for_signal(void)
{
	sigset_t set = protocol();
	int signal = 0;

	if (sigwait(&set, &signal) != 0)
		_exit(3);
	return signal == SIGUSR1;
}

void truth_begin(void)
{
	sigset_t set = protocol();

	alarm(FORGOTTEN_AFTER);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		_exit(3);
	truth_say("ready\n");
	if (!wait_for_signal())
		_exit(0);
}

void truth_allocated(struct site *site, size_t bytes)
{
	__atomic_fetch_add(&site->bytes, (long)bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&site->count, 1, __ATOMIC_RELAXED);
}

void truth_freed(struct site *site, size_t bytes)
{
	__atomic_fetch_sub(&site->bytes, (long)bytes, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&site->count, 1, __ATOMIC_RELAXED);
}

void *truth_gained(struct site *site, void *block, size_t bytes)
{
	if (block == NULL || block == MAP_FAILED)
		abort();
	truth_allocated(site, bytes);
	return block;
}

void truth_text(char *line, size_t size, const char *text)
{
	size_t used = strlen(line), more = strlen(text);

	if (used + more >= size)
		abort();
	memcpy(line + used, text, more + 1);
}

void truth_number(char *line, size_t size, long number)
{
	char digits[24];
	char *digit = digits + sizeof(digits) - 1;
	unsigned long rest = number < 0 ? 0 - (unsigned long)number : (unsigned long)number;

	*digit = 0;
	do {
		*--digit = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (number < 0)
		*--digit = '-';
	truth_text(line, size, digit);
}

void truth_tell(const char *program, const struct site *sites, size_t count)
{
	static char line[65536];
	size_t size = sizeof(line);

	line[0] = 0;
	truth_text(line, size, "{\"program\":\"");
	truth_text(line, size, program);
	truth_text(line, size, "\",\"sites\":[");
	for (size_t i = 0; i < count; i++) {
		truth_text(line, size, i > 0 ? ",{\"function\":\"" : "{\"function\":\"");
		truth_text(line, size, sites[i].function);
		truth_text(line, size, "\",\"domain\":\"");
		truth_text(line, size, sites[i].domain);
		truth_text(line, size, "\",\"bytes\":");
		truth_number(line, size, sites[i].bytes);
		truth_text(line, size, ",\"count\":");
		truth_number(line, size, sites[i].count);
		truth_text(line, size, "}");
	}
	truth_text(line, size, "]}\n");
	truth_say(line);
}

int truth_done(void)
{
	truth_say("done\n");
	return wait_for_signal();
}

void truth_end(const char *program, const struct site *sites, size_t count)
{
	truth_tell(program, sites, count);
	while (truth_done())
		;
}
