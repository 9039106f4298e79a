// SPDX-License-Identifier: BSD-2-Clause
// A stand-in for a proxy that runs WebAssembly filters: filter [SECONDS]
//
// The host functions a filter may call have the names they have in Envoy (proxy_wasm::exports), so the patterns used
// there work here: `pyebpf funclatency './filter:proxy_wasm*exports*'`. Each takes its own time. on_request is now and
// then left by an exception, as a call into a crashing filter is.
//
// It prints its pid when it starts and how often it called what when it ends: after SECONDS (0: for ever), at Ctrl-C or
// SIGTERM.
#include <csignal>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

#ifdef __clang__
#define TRACED __attribute__((noinline))
#else
#define TRACED __attribute__((noipa)) // no inlining, no copies made for one caller
#endif

namespace {

using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t stopped;

struct Counts {
	uint64_t requests, aborted, clock, response, headers, log;
} counts;

// Busy, not asleep: host functions compute
void work_us(int us)
{
	const auto end = Clock::now() + std::chrono::microseconds(us);
	while (Clock::now() < end) {
	}
}

} // namespace

namespace proxy_wasm {

// A value of the filter's 32-bit machine
struct Word {
	Word(uint64_t value) : value(value) {}
	uint64_t value;
};

namespace exports {

TRACED Word get_current_time_nanoseconds(void *context, Word result)
{
	(void)context;
	counts.clock++;
	work_us(2);
	return result.value;
}

TRACED Word send_local_response(void *context, Word code, Word details, Word details_size, Word body, Word body_size,
                                Word headers, Word headers_size, Word grpc_status)
{
	(void)context;
	(void)details, (void)body, (void)headers, (void)grpc_status;
	counts.response++;
	work_us(counts.response % 23 == 0 ? 300 : 30);
	return code.value + details_size.value + body_size.value + headers_size.value;
}

TRACED Word get_header_map_pairs(void *context, Word type, Word data, Word size)
{
	(void)context;
	(void)data;
	counts.headers++;
	work_us(10);
	return type.value + size.value;
}

TRACED Word log(void *context, Word level, Word message, Word size)
{
	(void)context;
	(void)message, (void)size;
	counts.log++;
	work_us(1 + static_cast<int>(counts.log % 7));
	return level.value;
}

} // namespace exports
} // namespace proxy_wasm

namespace filter {

// One request; every seventh crashes the filter
TRACED uint64_t on_request(uint64_t number)
{
	using namespace proxy_wasm::exports;
	const std::string path = "/orders/" + std::to_string(number); // destroyed also by the exception
	uint64_t sum = 0;

	counts.requests++;
	for (int line = 0; line < 5; line++)
		sum += log(nullptr, line, 0, path.size()).value;
	sum += get_header_map_pairs(nullptr, 0, 0, 0).value;
	if (number % 7 == 0)
		throw std::runtime_error("filter crashed at " + path);
	if (number % 3 == 0)
		sum += get_current_time_nanoseconds(nullptr, 0).value;
	return sum + send_local_response(nullptr, 200, 0, 0, 0, path.size(), 0, 0, 0).value;
}

} // namespace filter

int main(int argc, char **argv)
{
	const double seconds = argc > 1 ? std::atof(argv[1]) : 0;
	const auto start = Clock::now();
	const auto stop = [](int) { stopped = 1; };

	std::signal(SIGINT, stop);
	std::signal(SIGTERM, stop);
	std::printf("filter: pid %d\n", static_cast<int>(getpid()));
	std::fflush(stdout);

	for (uint64_t number = 0; !stopped; number++) {
		if (seconds > 0 && std::chrono::duration<double>(Clock::now() - start).count() >= seconds)
			break;
		try {
			filter::on_request(number);
		} catch (const std::runtime_error &) {
			counts.aborted++;
		}
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
	}

	const auto print = [](const char *name, uint64_t n) { std::printf("%-50s %llu\n", name, (unsigned long long)n); };
	print("filter::on_request", counts.requests);
	print("  of which left by an exception", counts.aborted);
	print("proxy_wasm::exports::get_current_time_nanoseconds", counts.clock);
	print("proxy_wasm::exports::send_local_response", counts.response);
	print("proxy_wasm::exports::get_header_map_pairs", counts.headers);
	print("proxy_wasm::exports::log", counts.log);
	return 0;
}
