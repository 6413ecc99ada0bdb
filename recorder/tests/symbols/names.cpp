// As frames.c: prints `name address` of a place with C++ names, then waits for its end.
#include <cstdio>
#include <unistd.h>
#include <vector>

#define BARRIER __asm__ volatile("" ::: "memory")

namespace names {

__attribute__((noinline)) static void *here()
{
	BARRIER;
	return __builtin_return_address(0);
}

inline __attribute__((always_inline)) void *inner()
{
	void *place = here();
	BARRIER;
	return place;
}

template <typename T> struct Box {
	__attribute__((noinline)) void *place(std::vector<T> &values)
	{
		void *place = inner();
		values.push_back(1);
		return place;
	}
};

} // namespace names

int main()
{
	std::vector<int> values;

	std::printf("in_place %p\nready\n", names::Box<int>().place(values));
	std::fflush(stdout);
	for (;;)
		pause();
}
