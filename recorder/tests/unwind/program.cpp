// Allocates from everywhere: recursion, containers, destructors while an exception unwinds, calls
// through pointers and virtual functions, a function that ends in a call, realigned stacks, threads.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define NOINLINE __attribute__((noinline))

struct Shape {
	virtual ~Shape() = default;
	virtual std::string name(int depth) const = 0;
};

struct Leaf : Shape {
	std::string name(int depth) const override { return std::string(40 + depth, 'l'); }
};

struct Nest : Shape {
	std::unique_ptr<Shape> inner;
	explicit Nest(std::unique_ptr<Shape> inner) : inner(std::move(inner)) {}
	std::string name(int depth) const override { return "nest of " + inner->name(depth + 1); }
};

// Allocates when it is destroyed, also while an exception passes.
struct Witness {
	int depth;
	~Witness() { std::free(std::malloc(100 + depth)); }
};

[[noreturn]] NOINLINE void fail(int depth)
{
	throw std::runtime_error("the bottom, at a depth of " + std::to_string(depth) + " calls");
}

NOINLINE int fall(int depth)
{
	Witness witness{depth};
	std::vector<int> room(depth + 1);
	if (depth == 0)
		fail(depth);
	return fall(depth - 1) + room.size();
}

// The compiler realigns the stack of such a function, and finds the caller by a saved pointer.
NOINLINE double aligned(int depth, std::size_t room)
{
	alignas(64) double values[16] = {};
	char *variable = static_cast<char *>(__builtin_alloca(room));
	std::snprintf(variable, room, "%d", depth);
	std::unique_ptr<double> boxed(new double(std::atof(variable)));
	for (double &value : values)
		value = *boxed;
	asm volatile("" : : "r"(values) : "memory");
	return depth ? aligned(depth - 1, room) + values[depth & 15] : values[0];
}

NOINLINE std::size_t large_frame(int depth)
{
	volatile char room[20000];
	room[depth] = 1;
	std::string text(100 + depth, 'x');
	asm volatile("" : : "r"(text.data()) : "memory");
	return depth ? large_frame(depth - 1) + room[depth] : text.size();
}

static int by_text(const void *a, const void *b)
{
	std::string left(*static_cast<const char *const *>(a)), right(*static_cast<const char *const *>(b));
	left += " with so many letters that they need memory";
	return left.compare(right);
}

static void round(int number)
{
	std::map<std::string, std::vector<int>> map;
	for (int i = 0; i < 50; i++)
		map["the key of an entry, number " + std::to_string(i * 7919 % 50)].push_back(i);
	std::unique_ptr<Shape> shape(new Leaf);
	for (int i = 0; i < number % 12; i++)
		shape.reset(new Nest(std::move(shape)));
	shape->name(0);
	try {
		fall(number % 20);
	} catch (const std::runtime_error &error) {
		map[error.what()];
	}
	aligned(number % 6, 100 + number % 300);
	large_frame(number % 3);
	const char *texts[] = {"pear", "apple", "quince", "medlar"};
	std::qsort(texts, 4, sizeof *texts, by_text);
	std::function<void(int)> down = [&](int depth) {
		std::vector<long> room(depth + 1);
		if (depth)
			down(depth - 1);
	};
	down(number % 30);
}

int main()
{
	std::puts("ready");
	std::fflush(stdout);
	if (std::getchar() == EOF)
		return 0;
	std::thread other([] {
		for (int number = 0;; number++)
			round(number);
	});
	for (int number = 0;; number++)
		round(number);
}
