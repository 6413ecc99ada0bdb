/* Every form of C++'s new and delete, each new in a function of its own; some objects are deleted. */
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

extern "C" {
#include "truth.h"
}

namespace {

struct alignas(64) Aligned {
	char bytes[192];
};

struct Plain {
	char bytes[40];
	~Plain() { bytes[0] = 1; } /* arrays of it keep their length in front */
};

enum {
	NEW, NEW_NOTHROW, NEW_ALIGNED, NEW_ALIGNED_NOTHROW, ARRAY, ARRAY_NOTHROW, ARRAY_ALIGNED, ARRAY_ALIGNED_NOTHROW,
	ARRAY_OF_OBJECTS, FAILS, BY_HAND, SITES
};

site sites[SITES] = {
	{ "by_new", "heap", 0, 0 },
	{ "by_new_nothrow", "heap", 0, 0 },
	{ "by_new_aligned", "heap", 0, 0 },
	{ "by_new_aligned_nothrow", "heap", 0, 0 },
	{ "by_new_array", "heap", 0, 0 },
	{ "by_new_array_nothrow", "heap", 0, 0 },
	{ "by_new_array_aligned", "heap", 0, 0 },
	{ "by_new_array_aligned_nothrow", "heap", 0, 0 },
	{ "by_new_array_of_objects", "heap", 0, 0 },
	{ "failing_new", "heap", 0, 0 },
	{ "freed_by_hand", "heap", 0, 0 },
};

template <typename T> T *gained(T *block, int site, std::size_t bytes)
{
	return static_cast<T *>(truth_gained(&sites[site], block, bytes));
}

void lost(int site, std::size_t bytes)
{
	truth_freed(&sites[site], bytes);
}

} // namespace

extern "C" {

SITE void by_new()
{
	gained(new long(1), NEW, sizeof(long));
	delete gained(new long(2), NEW, sizeof(long)); /* sized */
	lost(NEW, sizeof(long));
	::operator delete(gained(::operator new(50), NEW, 50));
	lost(NEW, 50);
	::operator delete(gained(::operator new(60), NEW, 60), std::nothrow);
	lost(NEW, 60);
	delete gained(new Plain, NEW, sizeof(Plain));
	lost(NEW, sizeof(Plain));
}

SITE void by_new_nothrow()
{
	gained(new (std::nothrow) Plain, NEW_NOTHROW, sizeof(Plain));
	delete gained(new (std::nothrow) Plain, NEW_NOTHROW, sizeof(Plain));
	lost(NEW_NOTHROW, sizeof(Plain));
}

SITE void by_new_aligned()
{
	gained(new Aligned, NEW_ALIGNED, sizeof(Aligned));
	delete gained(new Aligned, NEW_ALIGNED, sizeof(Aligned)); /* sized and aligned */
	lost(NEW_ALIGNED, sizeof(Aligned));
	::operator delete(gained(::operator new(128, std::align_val_t(128)), NEW_ALIGNED, 128), std::align_val_t(128));
	lost(NEW_ALIGNED, 128);
	::operator delete(gained(::operator new(256, std::align_val_t(128)), NEW_ALIGNED, 256), std::align_val_t(128),
			  std::nothrow);
	lost(NEW_ALIGNED, 256);
}

SITE void by_new_aligned_nothrow()
{
	gained(new (std::nothrow) Aligned, NEW_ALIGNED_NOTHROW, sizeof(Aligned));
	delete gained(new (std::nothrow) Aligned, NEW_ALIGNED_NOTHROW, sizeof(Aligned));
	lost(NEW_ALIGNED_NOTHROW, sizeof(Aligned));
}

SITE void by_new_array()
{
	gained(new char[1000], ARRAY, 1000);
	delete[] gained(new char[1000], ARRAY, 1000);
	lost(ARRAY, 1000);
	::operator delete[](gained(::operator new[](70), ARRAY, 70), 70);
	lost(ARRAY, 70);
	::operator delete[](gained(::operator new[](80), ARRAY, 80), std::nothrow);
	lost(ARRAY, 80);
}

SITE void by_new_array_nothrow()
{
	gained(new (std::nothrow) char[2000], ARRAY_NOTHROW, 2000);
	delete[] gained(new (std::nothrow) char[2000], ARRAY_NOTHROW, 2000);
	lost(ARRAY_NOTHROW, 2000);
}

SITE void by_new_array_aligned()
{
	gained(new Aligned[3], ARRAY_ALIGNED, 3 * sizeof(Aligned));
	delete[] gained(new Aligned[3], ARRAY_ALIGNED, 3 * sizeof(Aligned));
	lost(ARRAY_ALIGNED, 3 * sizeof(Aligned));
	::operator delete[](gained(::operator new[](512, std::align_val_t(64)), ARRAY_ALIGNED, 512), 512,
			    std::align_val_t(64));
	lost(ARRAY_ALIGNED, 512);
	::operator delete[](gained(::operator new[](576, std::align_val_t(64)), ARRAY_ALIGNED, 576), std::align_val_t(64),
			    std::nothrow);
	lost(ARRAY_ALIGNED, 576);
}

SITE void by_new_array_aligned_nothrow()
{
	gained(new (std::nothrow) Aligned[2], ARRAY_ALIGNED_NOTHROW, 2 * sizeof(Aligned));
	delete[] gained(new (std::nothrow) Aligned[2], ARRAY_ALIGNED_NOTHROW, 2 * sizeof(Aligned));
	lost(ARRAY_ALIGNED_NOTHROW, 2 * sizeof(Aligned));
}

SITE void by_new_array_of_objects()
{
	const std::size_t bytes = sizeof(std::size_t) + 5 * sizeof(Plain);

	gained(new Plain[5], ARRAY_OF_OBJECTS, bytes);
	delete[] gained(new Plain[5], ARRAY_OF_OBJECTS, bytes);
	lost(ARRAY_OF_OBJECTS, bytes);
}

/* What cannot be had is no object. (An exception that is thrown has memory of its own, for a while.) */
SITE void failing_new()
{
	volatile std::size_t huge = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;

	if (::operator new(huge, std::nothrow) != nullptr || ::operator new[](huge, std::nothrow) != nullptr)
		abort();
}

/* The same address, freed by delete and by free in turn, from one place each. */
SITE void freed_by_hand()
{
	for (int i = 0; i < 20; i++) {
		void *object = gained(::operator new(300), BY_HAND, 300);

		::operator delete(object);
		lost(BY_HAND, 300);
		object = gained(malloc(300), BY_HAND, 300);
		free(object);
		lost(BY_HAND, 300);
	}
	gained(::operator new(300), BY_HAND, 300);
}
}

int main()
{
	truth_begin();
	by_new();
	by_new_nothrow();
	by_new_aligned();
	by_new_aligned_nothrow();
	by_new_array();
	by_new_array_nothrow();
	by_new_array_aligned();
	by_new_array_aligned_nothrow();
	by_new_array_of_objects();
	failing_new();
	freed_by_hand();
	truth_end("operators", sites, SITES);
	return 0;
}
