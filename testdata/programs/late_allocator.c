/* Opens an allocator while it is recorded, and uses its functions by pointer, from the first moment on. */
#include "truth.h"

#include <dlfcn.h>
#include <stdlib.h>

enum { MALLOC, REALLOC, FREED, SITES };

static struct site sites[SITES] = {
	[MALLOC] = { "by_late_malloc", "heap", 0, 0 },
	[REALLOC] = { "by_late_realloc", "heap", 0, 0 },
	[FREED] = { "freed", "heap", 0, 0 },
};

static void *(*late_malloc)(size_t size);
static void *(*late_realloc)(void *block, size_t size);
static void (*late_free)(void *block);

static void *find(void *library, const char *name)
{
	void *function = dlsym(library, name);

	if (function == NULL)
		abort();
	return function;
}

SITE static void *by_late_malloc(void)
{
	truth_allocated(&sites[MALLOC], 1234);
	return late_malloc(1234);
}

SITE static void by_late_realloc(void *block)
{
	if (late_realloc(block, 54321) == NULL)
		abort();
	truth_freed(&sites[MALLOC], 1234);
	truth_allocated(&sites[REALLOC], 54321);
}

SITE static void freed(void)
{
	for (int i = 0; i < 10; i++) {
		void *block = late_malloc(77);

		truth_allocated(&sites[FREED], 77);
		late_free(block);
		truth_freed(&sites[FREED], 77);
	}
}

int main(void)
{
	truth_begin();

	void *library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);

	if (library == NULL) {
		truth_say(dlerror());
		abort();
	}
	*(void **)&late_malloc = find(library, "mi_malloc");
	*(void **)&late_realloc = find(library, "mi_realloc");
	*(void **)&late_free = find(library, "mi_free");
	by_late_malloc();
	by_late_realloc(by_late_malloc());
	freed();
	truth_end("late_allocator", sites, SITES);
	return 0;
}
