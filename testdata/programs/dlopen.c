/* Opens a library after the recorder is attached, lets it allocate, closes it; then the same with
 * another library, which the loader likes to put at the very same addresses.
 *
 * Both libraries lie beside the program. */
#include "truth.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_BEGINS, FIRST, SECOND_BEGINS, SECOND, SITES };

static struct site sites[SITES] = {
	[FIRST_BEGINS] = { "first_library_begins", "heap", 0, 0 },
	[FIRST] = { "first_library_keeps", "heap", 0, 0 },
	[SECOND_BEGINS] = { "second_library_begins", "heap", 0, 0 },
	[SECOND] = { "second_library_keeps", "heap", 0, 0 },
};

/* Of the functions in library.c: how many blocks, and of how many bytes. Constructors keep one each. */
enum { BLOCKS = 3, FIRST_SIZE = 500, SECOND_SIZE = 600 };

/* The directory of this program, with a slash. */
static void find_directory(char *path, size_t size)
{
	ssize_t length = readlink("/proc/self/exe", path, size - 1);

	if (length < 0)
		abort();
	path[length] = 0;
	strrchr(path, '/')[1] = 0;
}

static void call(const char *library, const char *function)
{
	char path[4096];

	find_directory(path, sizeof(path));
	truth_text(path, sizeof(path), library);

	void *handle = dlopen(path, RTLD_NOW);

	if (handle == NULL)
		abort();

	void (*keeps)(void);

	*(void **)&keeps = dlsym(handle, function);
	if (keeps == NULL)
		abort();
	keeps();
	if (dlclose(handle) != 0)
		abort();
}

int main(void)
{
	truth_begin();
	call("libfirst.so", "first_library_keeps");
	call("libsecond.so", "second_library_keeps");
	truth_allocated(&sites[FIRST_BEGINS], FIRST_SIZE);
	truth_allocated(&sites[SECOND_BEGINS], SECOND_SIZE);
	for (int i = 0; i < BLOCKS; i++) {
		truth_allocated(&sites[FIRST], FIRST_SIZE);
		truth_allocated(&sites[SECOND], SECOND_SIZE);
	}
	truth_end("dlopen", sites, SITES);
	return 0;
}
