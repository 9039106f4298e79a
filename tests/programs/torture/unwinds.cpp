// SPDX-License-Identifier: BSD-2-Clause
// Exceptions on every way through traced frames: unwinds [-n N] [-t THREADS]
//
//   g++ -std=c++20 -g -O2 -Wall -pthread -o unwinds unwinds.cpp     also: clang++, -static, -static-pie, -O0, -O3
//
//   hell::thrower(int)      throws for every i that isn't a multiple of 3
//   hell::passer(int)       lets it pass, with a destructor on the way
//   hell::nested(int)       catches, and throws another from the handler
//   hell::again(int)        catches and rethrows with throw;
//   hell::swallows(int)     a destructor's callee: throws and catches while another exception is in flight
//   hell::calm(int)         noexcept, catches inside
//   hell::member            its constructor throws through a function try block
//   hell::carries(int)      hands the exception to another thread, which rethrows it there (hell::lands)
//   hell::steps(int)        a coroutine: yields, is resumed on another thread, throws into its caller, or is destroyed half done
#include <coroutine>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

#include "torture.h"

enum { THROWER, PASSER, NESTED, AGAIN, SWALLOWS, CALM, MEMBER, CARRIES, LANDS, STEPS, RESUMES, FUNCTIONS };
static const char *const names[FUNCTIONS] = {
	"hell::thrower(int)", "hell::passer(int)", "hell::nested(int)", "hell::again(int)", "hell::swallows(int)",
	"hell::calm(int)", "hell::Member::Member(int)", "hell::carries(int)", "hell::lands(void*)", "hell::steps(int)",
	"hell::resumes(void*)",
};

namespace hell {

TRACED int swallows(int i);

struct Guard {
	int i;
	~Guard() { swallows(i); }
};

TRACED int thrower(int i)
{
	entered(THROWER);
	if (i % 3 != 0)
		throw std::runtime_error(std::to_string(i));
	left(THROWER);
	return i + 1;
}

TRACED int swallows(int i)
{
	entered(SWALLOWS);
	try {
		thrower(i);
	} catch (const std::exception &error) {
		check((uint64_t)std::stoi(error.what()), (uint64_t)i);
		survived();
	}
	left(SWALLOWS);
	return i;
}

TRACED int passer(int i)
{
	entered(PASSER);
	Guard guard{i};
	const int result = thrower(i);
	left(PASSER);
	return result;
}

TRACED int nested(int i)
{
	entered(NESTED);
	try {
		const int result = passer(i);
		left(NESTED);
		return result;
	} catch (const std::exception &) {
		survived();
		throw std::logic_error(std::to_string(i + 2));
	}
}

TRACED int again(int i)
{
	entered(AGAIN);
	try {
		const int result = nested(i);
		left(AGAIN);
		return result;
	} catch (...) {
		survived();
		throw;
	}
}

TRACED int calm(int i) noexcept
{
	int result;

	entered(CALM);
	try {
		result = again(i);
	} catch (const std::logic_error &error) {
		survived();
		result = std::stoi(error.what());
	}
	left(CALM);
	return result;
}

struct Part {
	int value;
	explicit Part(int i) : value(thrower(i)) {}
};

struct Member {
	Part part;
	TRACED explicit Member(int i);
};

Member::Member(int i)
try : part((entered(MEMBER), i)) {
	left(MEMBER);
} catch (const std::exception &) {
	survived();
}

TRACED int lands(void *thrown)
{
	entered(LANDS);
	if (*static_cast<std::exception_ptr *>(thrown))
		std::rethrow_exception(*static_cast<std::exception_ptr *>(thrown));
	left(LANDS);
	return 0;
}

TRACED int carries(int i)
{
	std::exception_ptr thrown;
	int result = 0;

	entered(CARRIES);
	try {
		result = passer(i);
	} catch (...) {
		thrown = std::current_exception();
	}
	std::thread other([&] {
		try {
			lands(&thrown);
		} catch (const std::exception &error) {
			survived();
			result = std::stoi(error.what());
		}
	});
	other.join();
	left(CARRIES);
	return result;
}

struct Steps {
	struct promise_type {
		int value = 0;
		std::exception_ptr thrown;
		Steps get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
		std::suspend_always initial_suspend() { return {}; }
		std::suspend_always final_suspend() noexcept { return {}; }
		std::suspend_always yield_value(int i) { value = i; return {}; }
		void return_void() {}
		void unhandled_exception() { thrown = std::current_exception(); }
	};
	std::coroutine_handle<promise_type> handle;
};

TRACED Steps steps(int i)
{
	Guard guard{3 * i};

	for (int k = 0; k < 4; k++)
		co_yield thrower(3 * (i + k));
	co_yield passer(i);
}

TRACED void resumes(void *handle)
{
	entered(RESUMES);
	std::coroutine_handle<>::from_address(handle).resume();
	OPAQUE(handle);
	left(RESUMES);
}

} // namespace hell

static void coroutine(int i)
{
	entered(STEPS);
	hell::Steps made = hell::steps(i);

	left(STEPS);
	for (int k = 0; k < (i % 2 ? 2 : 6) && !made.handle.done(); k++) {
		if (k % 2 && i % 16 == 0)
			std::thread([&] { hell::resumes(made.handle.address()); }).join();
		else
			hell::resumes(made.handle.address());
		survived();
		if (made.handle.promise().thrown)
			check(1, i % 3 != 0);
		else if (!made.handle.done())
			check((uint64_t)made.handle.promise().value, (uint64_t)(k < 4 ? 3 * (i + k) + 1 : i + 1));
	}
	made.handle.destroy();
}

static void work()
{
	for (int i = 0; i < rounds; i++) {
		check((uint64_t)hell::calm(i), (uint64_t)(i % 3 ? i + 2 : i + 1));
		try {
			check((uint64_t)hell::Member(i).part.value, (uint64_t)i + 1);
		} catch (const std::exception &error) { // a function try block can't but throw it on
			check((uint64_t)std::stoi(error.what()), (uint64_t)i);
		}
		if (i % 16 == 0)
			check((uint64_t)hell::carries(i), (uint64_t)(i % 3 ? i : i + 1));
		coroutine(i);
	}
}

int main(int argc, char **argv)
{
	begins(argc, argv, names, FUNCTIONS);
	std::thread workers[64];

	for (int i = 0; i < threads; i++)
		workers[i] = std::thread(work);
	for (int i = 0; i < threads; i++)
		workers[i].join();
	kind = "unwinds";
	tells();
	return 0;
}
