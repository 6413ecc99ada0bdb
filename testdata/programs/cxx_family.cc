// Every kind of call by which a C++ program gets memory from glibc and libstdc++: one object, one
// event, and the function that asked for it in the stack.
extern "C" {
#include "truth.h"
}

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace {

constexpr size_t PAGE = 4096;

struct alignas(64) Aligned {
	char bytes[192];
};
struct Plain {
	char bytes[40];
};
struct Throws {
	char bytes[88];
	Throws() { throw 1; }
};

void must(bool right)
{
	if (!right)
		abort();
}

void *kept[256];
int kept_count;

void keep(void *block)
{
	must(block != nullptr && block != MAP_FAILED);
	kept[kept_count++] = block;
}

enum {
	MALLOC, CALLOC, REALLOC, REALLOCARRAY, POSIX_MEMALIGN, ALIGNED_ALLOC, MEMALIGN, VALLOC, PVALLOC, STRDUP,
	STRNDUP, ASPRINTF, GETLINE, MEMSTREAM, NEW, NEW_ARRAY, NEW_NOTHROW, NEW_ARRAY_NOTHROW, NEW_ALIGNED,
	NEW_ALIGNED_ARRAY, NEW_ALIGNED_NOTHROW, STRING, VECTOR, MAP, SHARED, MMAP, MMAP64, MREMAP, ALL_DELETED, NEW_THROWS, SITES
};

#define HEAP(name) { name, "heap", 0, 0 }
struct site sites[SITES] = {
	HEAP("by_malloc"), HEAP("by_calloc"), HEAP("by_realloc"), HEAP("by_reallocarray"), HEAP("by_posix_memalign"),
	HEAP("by_aligned_alloc"), HEAP("by_memalign"), HEAP("by_valloc"), HEAP("by_pvalloc"), HEAP("by_strdup"),
	HEAP("by_strndup"), HEAP("by_asprintf"), HEAP("by_getline"), HEAP("by_open_memstream"), HEAP("by_new"),
	HEAP("by_new_array"), HEAP("by_new_nothrow"), HEAP("by_new_array_nothrow"), HEAP("by_new_aligned"),
	HEAP("by_new_aligned_array"), HEAP("by_new_aligned_nothrow"), HEAP("by_string"), HEAP("by_vector"),
	HEAP("by_map"), HEAP("by_shared"), { "by_mmap", "mapping", 0, 0 }, { "by_mmap64", "mapping", 0, 0 },
	{ "by_mremap", "mapping", 0, 0 }, HEAP("all_deleted"), HEAP("by_new_that_throws"),
};

void gained(int site, size_t bytes)
{
	truth_allocated(&sites[site], bytes);
}

} // namespace

extern "C" { // names as they are written

SITE void by_malloc() { keep(malloc(11)); gained(MALLOC, 11); }
SITE void by_calloc() { keep(calloc(3, 7)); gained(CALLOC, 21); }
SITE void by_realloc() { keep(realloc(realloc(nullptr, 5), 31)); gained(REALLOC, 31); }
SITE void by_reallocarray() { keep(reallocarray(nullptr, 4, 9)); gained(REALLOCARRAY, 36); }

SITE void by_posix_memalign()
{
	void *block = nullptr;

	must(posix_memalign(&block, 32, 41) == 0);
	keep(block);
	gained(POSIX_MEMALIGN, 41);
}

SITE void by_aligned_alloc() { keep(aligned_alloc(32, 64)); gained(ALIGNED_ALLOC, 64); }
SITE void by_memalign() { keep(memalign(32, 51)); gained(MEMALIGN, 51); }
SITE void by_valloc() { keep(valloc(61)); gained(VALLOC, 61); }
SITE void by_pvalloc() { keep(pvalloc(71)); gained(PVALLOC, 71); }
SITE void by_strdup() { keep(strdup("seventeen letters")); gained(STRDUP, 18); }
SITE void by_strndup() { keep(strndup("seventeen letters", 9)); gained(STRNDUP, 10); }

/* More than the 100 bytes that libc prints into first; it asks for what it needs. */
SITE void by_asprintf()
{
	char *text = nullptr;

	must(asprintf(&text, "%0300d", 7) == 300);
	keep(text);
	gained(ASPRINTF, malloc_usable_size(text) >= 301 ? 301 : 0);
}

/* Its first buffer has 120 bytes. */
SITE void by_getline()
{
	static char input[] = "one short line\n";
	static char buffer[64];
	char *line = nullptr;
	size_t size = 0;
	FILE *file = fmemopen(input, sizeof(input) - 1, "r");

	must(file != nullptr && setvbuf(file, buffer, _IOFBF, sizeof(buffer)) == 0);
	must(getline(&line, &size, file) == 15);
	must(fclose(file) == 0);
	keep(line);
	gained(GETLINE, size);
}

/* The text that is left; its length is shrunk to at the end. */
SITE void by_open_memstream()
{
	char *text = nullptr;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);

	must(file != nullptr && fprintf(file, "%0500d", 7) == 500 && fclose(file) == 0);
	keep(text);
	gained(MEMSTREAM, 501);
}

SITE void by_new() { keep(new Plain); gained(NEW, sizeof(Plain)); }
SITE void by_new_array() { keep(new Plain[3]); gained(NEW_ARRAY, 3 * sizeof(Plain)); }
SITE void by_new_nothrow() { keep(new (std::nothrow) Plain); gained(NEW_NOTHROW, sizeof(Plain)); }

SITE void by_new_array_nothrow()
{
	keep(new (std::nothrow) Plain[5]);
	gained(NEW_ARRAY_NOTHROW, 5 * sizeof(Plain));
}

SITE void by_new_aligned() { keep(new Aligned); gained(NEW_ALIGNED, sizeof(Aligned)); }
SITE void by_new_aligned_array() { keep(new Aligned[2]); gained(NEW_ALIGNED_ARRAY, 2 * sizeof(Aligned)); }

SITE void by_new_aligned_nothrow()
{
	keep(new (std::nothrow) Aligned);
	gained(NEW_ALIGNED_NOTHROW, sizeof(Aligned));
}

/* The object itself, and its text with the zero behind it. */
SITE void by_string()
{
	auto text = new std::string(100, 'x');

	keep(text);
	gained(STRING, sizeof(std::string));
	gained(STRING, 101);
}

SITE void by_vector()
{
	auto numbers = new std::vector<int>(25);

	keep(numbers);
	gained(VECTOR, sizeof(std::vector<int>));
	gained(VECTOR, 25 * sizeof(int));
	numbers->resize(25 + 75);
	truth_freed(&sites[VECTOR], 25 * sizeof(int));
	gained(VECTOR, 100 * sizeof(int));
}

/* A node: colour and three pointers, then the pair. */
SITE void by_map()
{
	auto numbers = new std::map<long, long>;

	keep(numbers);
	gained(MAP, sizeof(std::map<long, long>));
	for (long i = 0; i < 10; i++) {
		(*numbers)[i] = i;
		gained(MAP, 32 + sizeof(std::pair<const long, long>));
	}
}

/* Object and counters in one block, freed with the last owner. */
SITE void by_shared()
{
	auto first = std::make_shared<Plain>();
	auto second = first;
}

SITE void by_mmap()
{
	keep(mmap(nullptr, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	gained(MMAP, 2 * PAGE);
}

SITE void by_mmap64()
{
	keep(mmap64(nullptr, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	gained(MMAP64, 3 * PAGE);
}

SITE void by_mremap()
{
	void *range = mmap(nullptr, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	keep(mremap(range, PAGE, 9 * PAGE, MREMAP_MAYMOVE));
	gained(MREMAP, 9 * PAGE);
}

SITE void by_new_that_throws()
{
	try {
		keep(new Throws);
	} catch (int) {
	}
}

/* Every form of delete: plain, sized, of arrays, aligned, nothrow. */
SITE void all_deleted()
{
	for (int i = 0; i < 10; i++) {
		delete new Plain;
		delete[] new Plain[4];
		delete new Aligned;
		delete[] new Aligned[3];
		::operator delete(::operator new(30));
		::operator delete(::operator new(30), size_t(30));
		::operator delete[](::operator new[](31));
		::operator delete[](::operator new[](31), size_t(31));
		::operator delete(::operator new(32, std::nothrow), std::nothrow);
		::operator delete[](::operator new[](33, std::nothrow), std::nothrow);
		::operator delete(::operator new(34, std::align_val_t(64)), std::align_val_t(64));
		::operator delete(::operator new(34, std::align_val_t(64)), size_t(34), std::align_val_t(64));
		free(strdup("freed"));
		delete new std::vector<std::string>(20, std::string(50, 'y'));
	}
}

} // extern "C"

int main()
{
	truth_begin();
	by_malloc();
	by_calloc();
	by_realloc();
	by_reallocarray();
	by_posix_memalign();
	by_aligned_alloc();
	by_memalign();
	by_valloc();
	by_pvalloc();
	by_strdup();
	by_strndup();
	by_asprintf();
	by_getline();
	by_open_memstream();
	by_new();
	by_new_array();
	by_new_nothrow();
	by_new_array_nothrow();
	by_new_aligned();
	by_new_aligned_array();
	by_new_aligned_nothrow();
	by_string();
	by_vector();
	by_map();
	by_shared();
	by_mmap();
	by_mmap64();
	by_mremap();
	by_new_that_throws();
	all_deleted();
	truth_end("cxx_family", sites, SITES);
}
