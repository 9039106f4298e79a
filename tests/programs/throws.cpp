// SPDX-License-Identifier: BSD-2-Clause
// Functions that are left by exceptions, and names only C++ has: throws [-k THROWN] [-m RETURNED] [-w]
//
//   g++ -std=c++17 -g -O2 -Wall -o throws throws.cpp        also: -static, -static-pie, -no-pie, clang++
//
//   shop::sometimes(int)     THROWN times left by an exception, RETURNED times not, mixed
//   shop::passes(int)        calls sometimes and lets the exception pass through its frame, which has a destructor to run
//   shop::catches(int)       calls passes, catches, and always returns
//   shop::scale(...)         overloads: (int), (double), (std::string const&); RETURNED times each
//   shop::largest<T>         templates: <int>, <double>; RETURNED times each
//   shop::Till::add(int), shop::Till::total() const, shop::Till::operator()(int), shop::Till::Till(int)
//   plain_c                  extern "C"
//
// The keys of the truth are demangled names. -w: waits for a second line before it exits. See truth.h.
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "truth.h"

static long destroyed;

extern "C" TRACED int plain_c(int i)
{
	OPAQUE(i);
	return i;
}

namespace shop {

struct Guard {
	~Guard() { destroyed++; }
};

TRACED int sometimes(int i)
{
	OPAQUE(i);
	if (i < 0)
		throw std::runtime_error("sometimes: " + std::to_string(i));
	return i;
}

TRACED int passes(int i)
{
	Guard guard;
	const uint64_t start = enters("shop::sometimes(int)");
	const int result = sometimes(i);

	leaves("shop::sometimes(int)", start);
	return result;
}

TRACED int catches(int i)
{
	const uint64_t start = enters("shop::passes(int)");

	try {
		const int result = passes(i);
		leaves("shop::passes(int)", start);
		return result;
	} catch (const std::exception &) {
		return -1;
	}
}

TRACED int scale(int value)
{
	OPAQUE(value);
	return value * 2;
}

TRACED double scale(double value)
{
	return value * 2;
}

TRACED std::string scale(const std::string &value)
{
	return value + value;
}

template <typename T> TRACED T largest(T a, T b)
{
	return a > b ? a : b;
}

class Till {
public:
	TRACED explicit Till(int start);
	TRACED void add(int cents);
	TRACED int total() const;
	TRACED int operator()(int cents);

private:
	int cents_;
};

Till::Till(int start) : cents_(start)
{
}

void Till::add(int cents)
{
	cents_ += cents;
}

int Till::total() const
{
	return cents_;
}

int Till::operator()(int cents)
{
	add(cents);
	return cents_;
}

} // namespace shop

// THROWN of THROWN + RETURNED calls throw, evenly spread
static void run_exceptions(long thrown, long returned)
{
	const long all = thrown + returned;

	for (long i = 0; i < all; i++) {
		const bool throws = (i + 1) * thrown / all != i * thrown / all;
		CALLED("shop::catches(int)", shop::catches(throws ? -1 : 1));
	}
}

static void run_names(long rounds)
{
	const std::string word = "word";

	for (long i = 0; i < rounds; i++) {
		const int value = static_cast<int>(i);

		CALLED("shop::scale(int)", shop::scale(value));
		CALLED("shop::scale(double)", shop::scale(1.5));
		CALLED("shop::scale(std::string const&)", shop::scale(word));
		CALLED("int shop::largest<int>(int, int)", shop::largest(value, 3));
		CALLED("double shop::largest<double>(double, double)", shop::largest(1.5, 2.5));
		CALLED("plain_c", plain_c(value));

		uint64_t start = enters("shop::Till::Till(int)");
		shop::Till till(value);
		leaves("shop::Till::Till(int)", start);
		CALLED("shop::Till::operator()(int)", CALLED("shop::Till::add(int)", till(value)));
		CALLED("shop::Till::total() const", till.total());
	}
}

int main(int argc, char **argv)
{
	long thrown = 23, returned = 997;
	bool linger = false;

	for (int option; (option = getopt(argc, argv, "k:m:w")) != -1;) {
		switch (option) {
		case 'k': thrown = std::atol(optarg); break;
		case 'm': returned = std::atol(optarg); break;
		case 'w': linger = true; break;
		default: return 2;
		}
	}
	ready("throws");
	run_exceptions(thrown, returned);
	run_names(returned);
	begin_truth("throws");
	std::printf(", \"thrown\": %ld, \"destroyed\": %ld", thrown, destroyed);
	end_truth();
	if (linger)
		wait_for_line();
	return 0;
}
