/* The hard places of unwinding, one per argument; built by the test in several ways. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

#define NOINLINE __attribute__((noinline))

static volatile long sink;

static NOINLINE void allocate(size_t bytes)
{
	void *block = malloc(bytes);

	sink += (long)block;
	free(block);
}

static NOINLINE int recurse(int depth)
{
	volatile int room[3] = {depth, 1, 2};

	if (depth)
		return recurse(depth - 1) + room[depth % 3];
	allocate(room[0] + 10);
	return 1;
}

/* Deeper than a stack is kept. */
static void deep(void)
{
	for (int depth = 0;; depth = (depth + 7) % 300)
		recurse(depth);
}

/* Frames beyond what 16 bits of words can tell, above one that fits. */
static NOINLINE int huge(int depth)
{
	volatile char room[3 << 20];

	room[depth] = 1;
	allocate(100);
	return (depth ? huge(depth - 1) : recurse(3)) + room[depth];
}

static void frames(void)
{
	for (;;)
		huge(1);
}

static jmp_buf back;

static NOINLINE __attribute__((noreturn)) void leave(int depth)
{
	recurse(depth);
	longjmp(back, 1);
}

/* Ends in a call: its return address lies behind it, in the next function. */
static NOINLINE void ends_in_call(int depth)
{
	volatile char room[200];

	room[depth] = depth;
	leave(room[depth]);
}

static void calls(void)
{
	for (;;)
		if (!setjmp(back))
			ends_in_call(4);
}

static void handler(int number)
{
	recurse(number % 5);
}

/* Interrupted anywhere: in libc, in a stub, in the vdso, in a prologue. Never in malloc. */
static void signals(void)
{
	static char other_stack[1 << 16];
	stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
	struct itimerval every = {{0, 200}, {0, 200}};
	struct sigaction action = {.sa_handler = handler};
	struct timespec now;

	sigaltstack(&stack, 0);
	sigaction(SIGALRM, &action, 0);
	setitimer(ITIMER_REAL, &every, 0);
	for (int round = 0;; round++) {
		if (round % 100000 == 0) {
			action.sa_flags ^= SA_ONSTACK;
			sigaction(SIGALRM, &action, 0);
		}
		for (int i = 0; i < 20; i++)
			clock_gettime(CLOCK_MONOTONIC, &now);
		for (int i = 0; i < 20; i++)
			sink += strlen("a text") + labs(sink) + rand();
	}
}

static void *thread(void *argument)
{
	recurse((long)argument);
	return 0;
}

/* Threads that come and go. */
static void threads(void)
{
	for (long depth = 0;; depth = (depth + 1) % 40) {
		pthread_t id;

		if (pthread_create(&id, 0, thread, (void *)depth) == 0)
			pthread_join(id, 0);
	}
}

#ifdef __GLIBC__
static ucontext_t outside, inside;

static void coroutine(void)
{
	for (;;) {
		recurse(5);
		swapcontext(&inside, &outside);
	}
}

/* A stack that is no thread's. */
static void contexts(void)
{
	static char stack[1 << 16];

	getcontext(&inside);
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = sizeof stack;
	inside.uc_link = &outside;
	makecontext(&inside, coroutine, 0);
	for (;;)
		swapcontext(&outside, &inside);
}
#endif

/* Code that no file backs and no table describes, as compilers at run time make it. */
static int (*trampolines[3])(int (*function)(int), int argument);

static void compile(void)
{
	static const unsigned char code[3][16] = {
		/* sub $8, %rsp; mov %rdi, %rax; mov %esi, %edi; call *%rax; add $8, %rsp; ret */
		{0x48, 0x83, 0xec, 8, 0x48, 0x89, 0xf8, 0x89, 0xf7, 0xff, 0xd0, 0x48, 0x83, 0xc4, 8, 0xc3},
		/* push %rbp; xor %ebp, %ebp; mov %rdi, %rax; mov %esi, %edi; call *%rax; pop %rbp; ret */
		{0x55, 0x31, 0xed, 0x48, 0x89, 0xf8, 0x89, 0xf7, 0xff, 0xd0, 0x5d, 0xc3},
		/* sub $0x48, %rsp; … */
		{0x48, 0x83, 0xec, 0x48, 0x48, 0x89, 0xf8, 0x89, 0xf7, 0xff, 0xd0, 0x48, 0x83, 0xc4, 0x48, 0xc3},
	};
	unsigned char *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		abort();
	for (int i = 0; i < 3; i++)
		trampolines[i] = memcpy(page + 64 * i, code[i], sizeof code[i]);
}

static int through(int depth)
{
	if (depth)
		return trampolines[depth % 3](through, depth - 1) + 1;
	allocate(10);
	return 1;
}

static void compiled(void)
{
	for (int depth = 0;; depth = (depth + 1) % 20)
		through(depth);
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
	if (getchar() == EOF)
		exit(0);
}

/* Before main, from ld.so. */
static void early(int argc, char **argv, char **environment)
{
	(void)environment;
	if (argc < 2 || strcmp(argv[1], "early") != 0)
		return;
	ready();
	for (;;)
		recurse(3);
}
__attribute__((section(".preinit_array"), used)) static void (*const before_main)(int, char **,
										   char **) = early;

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} corners[] = {
		{"deep", deep},	      {"frames", frames},     {"signals", signals},
		{"threads", threads}, {"calls", calls},	      {"compiled", compiled},
#ifdef __GLIBC__
		{"contexts", contexts},
#endif
	};

	if (argc < 2)
		return 1;
	compile();
	ready();
	for (size_t i = 0; i < sizeof corners / sizeof *corners; i++)
		if (strcmp(argv[1], corners[i].name) == 0)
			corners[i].run();
	return 1;
}
