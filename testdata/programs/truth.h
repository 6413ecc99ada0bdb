/* What every test program shares: it waits to be attached to, does one thing, tells the truth.
 *
 *   program                          whoever tests with it
 *   "ready\n"            stdout  →   attach the recorder to the pid
 *                        SIGUSR1 ←   go
 *   one line of JSON     stdout  →   what is outstanding, per call site
 *   "done\n"             stdout  →   stop the recorder
 *                        SIGTERM ←   end
 *
 * Nothing here allocates: stdout is written with write(2), so every allocation that a recorder sees
 * after "ready" is the program's own (or that of a libc function it calls on purpose).
 */
#ifndef TRUTH_H
#define TRUTH_H

#include <stddef.h>

/* A function that allocates directly: it is frames[0] of the report's stack. */
struct site {
	const char *function;
	const char *domain; /* "heap" or "mapping" */
	long bytes;         /* outstanding, as asked for (mappings: whole pages) */
	long count;         /* outstanding blocks or ranges */
};

/* Keeps a call site apart in every stack, whatever the optimizer is told. */
#define SITE __attribute__((noinline))

/* Blocks the signals of the protocol in this and all later threads, says ready, waits for SIGUSR1. */
void truth_begin(void);

/* Account for a block; safe from any thread. */
void truth_allocated(struct site *site, size_t bytes);
void truth_freed(struct site *site, size_t bytes);

/* Accounts for a new block and returns it; none (NULL, MAP_FAILED) would make the truth a lie, and aborts. To the
 * optimizer the block is in use: no call is left out. */
void *truth_gained(struct site *site, void *block, size_t bytes);

/* Writes {"program":…,"sites":[…]}. */
void truth_tell(const char *program, const struct site *sites, size_t count);

/* Says done and waits. Returns 0 on SIGTERM, 1 if SIGUSR1 asks for another round. */
int truth_done(void);

/* truth_tell, then truth_done until SIGTERM. */
void truth_end(const char *program, const struct site *sites, size_t count);

/* Writes text to stdout, whole. */
void truth_say(const char *text);

/* Appends to a zero-terminated line of `size` bytes; too long a line aborts. */
void truth_text(char *line, size_t size, const char *text);
void truth_number(char *line, size_t size, long number);

#endif
