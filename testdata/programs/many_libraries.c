/* many_libraries DIRECTORY COUNT: has COUNT libraries mapped before the recorder attaches
 * (DIRECTORY/lib0.so …, library.c built with KEEPS=library_0_keeps …), then calls each. */
#include "truth.h"

#include <dlfcn.h>
#include <stdlib.h>

enum { MOST = 200, LINE = 4096 };

/* Of the functions in library.c: how many blocks, and of how many bytes. */
enum { BLOCKS = 3, SIZE = 100 };

static void (*keeps[MOST])(void);
static char names[MOST][64];
static struct site sites[MOST];

static void open_library(const char *directory, long number)
{
	char path[LINE] = "";

	truth_text(path, sizeof(path), directory);
	truth_text(path, sizeof(path), "/lib");
	truth_number(path, sizeof(path), number);
	truth_text(path, sizeof(path), ".so");
	truth_text(names[number], sizeof(names[number]), "library_");
	truth_number(names[number], sizeof(names[number]), number);
	truth_text(names[number], sizeof(names[number]), "_keeps");

	void *handle = dlopen(path, RTLD_NOW);

	if (handle == NULL)
		abort();
	*(void **)&keeps[number] = dlsym(handle, names[number]);
	if (keeps[number] == NULL)
		abort();
	sites[number] = (struct site){ names[number], "heap", 0, 0 };
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[2]) : 0;

	if (count < 1 || count > MOST)
		return 2;
	for (long number = 0; number < count; number++)
		open_library(argv[1], number);
	truth_begin();
	for (long number = 0; number < count; number++) {
		keeps[number]();
		for (int block = 0; block < BLOCKS; block++)
			truth_allocated(&sites[number], SIZE);
	}
	truth_end("many_libraries", sites, (size_t)count);
	return 0;
}
