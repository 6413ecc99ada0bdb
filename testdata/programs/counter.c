/* A preloaded counter: what a recorder of the malloc family must find, counted by other means.
 *
 *   LD_PRELOAD=libcounter.so MEMLEAK_COUNTER=FILE program …
 *
 * Before main the program is held: FILE.ready appears, and SIGUSR1 lets it go. Counting starts there.
 * SIGUSR2, or the program's normal end, freezes it: every thread stands still at its next call into
 * the allocator, FILE holds the figures as JSON, and SIGUSR1 lets the program go on, uncounted.
 * Attach while it is held, stop recording while it is frozen: both have seen the same calls.
 *
 * The real functions are called through dlsym(RTLD_NEXT), so probes on libc see them. As for the
 * recorder, only the outermost call of a thread counts (reallocarray calls realloc). The table is
 * mapped before the program is held; from then on the counter takes no memory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h> /* rename; no stream is used */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Slots of the table of live blocks; a power of two. Pages nobody touches cost nothing. */
#define SLOTS (1ul << 24)

struct slot {
	uintptr_t address; /* 0: free */
	size_t size;
};

struct figures {
	unsigned long bytes, count, total_bytes, total_count, unknown_frees, overflows;
};

/* The real functions. */
static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);
static int (*real_posix_memalign)(void **, size_t, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);
static void *(*real_memalign)(size_t, size_t);
static void *(*real_valloc)(size_t);
static void *(*real_pvalloc)(size_t);
static void *(*real_reallocarray)(void *, size_t, size_t);

static struct slot *table;
static struct figures figures;
static atomic_flag table_lock = ATOMIC_FLAG_INIT;

static atomic_int counting; /* between held and frozen */
static atomic_int freezing; /* nobody may enter the allocator */
static atomic_int inside;   /* threads within a call */
static atomic_int wanted;   /* SIGUSR2 came while its thread was within a call */

/* Calls of this thread that have not returned. Initial-exec: reading it must not allocate. */
static __thread int depth __attribute__((tls_model("initial-exec")));

static const char *figures_path;

/* ---- the table: linear probing, backward-shift deletion ---- */

static void lock(void)
{
	while (atomic_flag_test_and_set_explicit(&table_lock, memory_order_acquire))
		sched_yield();
}

static void unlock(void)
{
	atomic_flag_clear_explicit(&table_lock, memory_order_release);
}

static size_t home(uintptr_t address)
{
	return (address >> 4) * 0x9e3779b97f4a7c15ul >> 40 & (SLOTS - 1);
}

static void insert(void *block, size_t size)
{
	size_t at = home((uintptr_t)block);

	lock();
	if (figures.count >= SLOTS / 2) {
		figures.overflows++;
	} else {
		while (table[at].address != 0)
			at = (at + 1) & (SLOTS - 1);
		table[at] = (struct slot){ (uintptr_t)block, size };
		figures.bytes += size;
		figures.count++;
		figures.total_bytes += size;
		figures.total_count++;
	}
	unlock();
}

/* Takes a block out. Returns 0 if it is not known: it was born before counting began. */
static int take(void *block, size_t *size)
{
	size_t at = home((uintptr_t)block), next;
	int known;

	lock();
	while (table[at].address != 0 && table[at].address != (uintptr_t)block)
		at = (at + 1) & (SLOTS - 1);
	known = table[at].address != 0;
	if (known) {
		*size = table[at].size;
		figures.bytes -= table[at].size;
		figures.count--;
		/* Close the gap: move back what probing would no longer reach. */
		for (next = (at + 1) & (SLOTS - 1); table[next].address != 0; next = (next + 1) & (SLOTS - 1)) {
			size_t wanted_at = home(table[next].address);

			if (((next - wanted_at) & (SLOTS - 1)) >= ((next - at) & (SLOTS - 1))) {
				table[at] = table[next];
				at = next;
			}
		}
		table[at].address = 0;
	} else {
		figures.unknown_frees++;
	}
	unlock();
	return known;
}

/* A reallocation failed: the block that was taken out is still there, and is no new one. */
static void restore(void *block, size_t size)
{
	insert(block, size);
	lock();
	figures.total_bytes -= size;
	figures.total_count--;
	unlock();
}

/* ---- holding and freezing ---- */

static void wait_for_go(void)
{
	sigset_t go;
	int signal;

	sigemptyset(&go);
	sigaddset(&go, SIGUSR1);
	while (sigwait(&go, &signal) == EINTR)
		;
}

static void add_text(char *line, const char *text)
{
	strcat(line, text);
}

static void add_field(char *line, const char *name, unsigned long value)
{
	char digits[24];
	char *digit = digits + sizeof(digits) - 1;

	*digit = 0;
	do {
		*--digit = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	add_text(line, name);
	add_text(line, digit);
}

/* Makes a file that appears with its text, whole, under its name. */
static void publish(const char *suffix, const char *text)
{
	char name[4096] = "", part[4104] = "";
	size_t length = strlen(text);

	if (strlen(figures_path) + strlen(suffix) >= sizeof(name))
		_exit(3);
	add_text(name, figures_path);
	add_text(name, suffix);
	add_text(part, name);
	add_text(part, ".part");

	int file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (file < 0 || write(file, text, length) != (ssize_t)length || close(file) != 0 || rename(part, name) != 0)
		_exit(3);
}

static void freeze(void)
{
	char line[512] = "";

	if (atomic_exchange(&freezing, 1) != 0)
		return;
	while (atomic_load(&inside) > 0)
		sched_yield();
	atomic_store(&counting, 0);
	add_field(line, "{\"bytes\":", figures.bytes);
	add_field(line, ",\"count\":", figures.count);
	add_field(line, ",\"total_bytes\":", figures.total_bytes);
	add_field(line, ",\"total_count\":", figures.total_count);
	add_field(line, ",\"unknown_frees\":", figures.unknown_frees);
	add_field(line, ",\"overflows\":", figures.overflows);
	add_text(line, "}\n");
	publish("", line);
	wait_for_go();
	atomic_store(&freezing, 0);
}

static void freeze_when_outside(int signal)
{
	int error = errno;

	(void)signal;
	if (depth > 0)
		atomic_store(&wanted, 1);
	else if (atomic_load(&counting))
		freeze();
	errno = error;
}

/* Returns whether this call is the thread's outermost and counted; every enter needs its leave. */
static int enter(void)
{
	if (depth++ > 0)
		return 0;
	for (;;) {
		atomic_fetch_add(&inside, 1);
		if (!atomic_load(&freezing))
			return atomic_load(&counting);
		atomic_fetch_sub(&inside, 1);
		while (atomic_load(&freezing))
			sched_yield();
	}
}

static void leave(void)
{
	if (depth > 1) {
		depth--;
		return;
	}
	int error = errno;

	atomic_fetch_sub(&inside, 1);
	/* Depth stays 1 until here: a SIGUSR2 before this line is noted, one after it freezes by itself. */
	depth = 0;
	if (atomic_exchange(&wanted, 0) && atomic_load(&counting))
		freeze();
	errno = error;
}

static void find_real_functions(void)
{
	real_calloc = dlsym(RTLD_NEXT, "calloc");
	real_realloc = dlsym(RTLD_NEXT, "realloc");
	real_free = dlsym(RTLD_NEXT, "free");
	real_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
	real_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
	real_memalign = dlsym(RTLD_NEXT, "memalign");
	real_valloc = dlsym(RTLD_NEXT, "valloc");
	real_pvalloc = dlsym(RTLD_NEXT, "pvalloc");
	real_reallocarray = dlsym(RTLD_NEXT, "reallocarray");
	real_malloc = dlsym(RTLD_NEXT, "malloc");
}

/* The first call comes from the loader, in the only thread, before any constructor. glibc's dlsym
 * allocates nothing unless it fails. */
static void begin(void)
{
	if (real_malloc == NULL)
		find_real_functions();
}

__attribute__((constructor)) static void hold(void)
{
	struct sigaction on_freeze = { .sa_handler = freeze_when_outside, .sa_flags = SA_RESTART };
	sigset_t go;

	begin();
	figures_path = getenv("MEMLEAK_COUNTER");
	if (figures_path == NULL)
		return;
	/* Children of the program are not counted. */
	unsetenv("LD_PRELOAD");
	table = mmap(NULL, SLOTS * sizeof(*table), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		_exit(3);
	/* Blocked in every thread to come, or SIGUSR1 would end one that does not wait for it. */
	sigemptyset(&go);
	sigaddset(&go, SIGUSR1);
	if (sigprocmask(SIG_BLOCK, &go, NULL) != 0 || sigaction(SIGUSR2, &on_freeze, NULL) != 0)
		_exit(3);
	publish(".ready", "");
	wait_for_go();
	atomic_store(&counting, 1);
}

__attribute__((destructor)) static void end(void)
{
	if (atomic_load(&counting))
		freeze();
}

/* ---- the family ---- */

void *malloc(size_t size)
{
	begin();

	int counted = enter();
	void *block = real_malloc(size);

	if (counted && block != NULL)
		insert(block, size);
	leave();
	return block;
}

void *calloc(size_t items, size_t size)
{
	begin();

	int counted = enter();
	void *block = real_calloc(items, size);

	if (counted && block != NULL)
		insert(block, items * size);
	leave();
	return block;
}

/* The old block is taken out before its address can be given to another thread. */
void *realloc(void *old, size_t size)
{
	begin();

	int counted = enter();
	size_t old_size = 0;
	int known = counted && old != NULL && take(old, &old_size);
	void *block = real_realloc(old, size);

	if (counted && block != NULL)
		insert(block, size);
	else if (known && !(size == 0 && old != NULL))
		restore(old, old_size);
	leave();
	return block;
}

void *reallocarray(void *old, size_t items, size_t size)
{
	begin();

	int counted = enter();
	size_t old_size = 0, bytes = 0;
	int too_much = __builtin_mul_overflow(items, size, &bytes);
	int known = counted && old != NULL && take(old, &old_size);
	void *block = real_reallocarray(old, items, size);

	if (counted && block != NULL)
		insert(block, bytes);
	else if (known && (too_much || bytes > 0))
		restore(old, old_size);
	leave();
	return block;
}

void free(void *block)
{
	begin();

	int counted = enter();
	size_t size;

	if (counted && block != NULL)
		take(block, &size);
	real_free(block);
	leave();
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
	begin();

	int counted = enter();
	int result = real_posix_memalign(block, alignment, size);

	if (counted && result == 0)
		insert(*block, size);
	leave();
	return result;
}

void *aligned_alloc(size_t alignment, size_t size)
{
	begin();

	int counted = enter();
	void *block = real_aligned_alloc(alignment, size);

	if (counted && block != NULL)
		insert(block, size);
	leave();
	return block;
}

void *memalign(size_t alignment, size_t size)
{
	begin();

	int counted = enter();
	void *block = real_memalign(alignment, size);

	if (counted && block != NULL)
		insert(block, size);
	leave();
	return block;
}

void *valloc(size_t size)
{
	begin();

	int counted = enter();
	void *block = real_valloc(size);

	if (counted && block != NULL)
		insert(block, size);
	leave();
	return block;
}

void *pvalloc(size_t size)
{
	begin();

	int counted = enter();
	void *block = real_pvalloc(size);

	if (counted && block != NULL)
		insert(block, size);
	leave();
	return block;
}
