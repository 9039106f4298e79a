// SPDX-License-Identifier: BSD-2-Clause
// Calls work() RATE times a second (0: as fast as it can) until SIGTERM, and counts: caller RATE
//
// Prints the calls of each second and its own CPU time of that second (µs), and at the end {"calls": of all}.   gcc -O2 -o caller caller.c   -DNEWER: elsewhere
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile sig_atomic_t ended;

static void end(int number)
{
	(void)number;
	ended = 1;
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#ifdef NEWER
__attribute__((noinline)) long other(long i)
{
	return printf("%ld\n", i * 7);
}
#endif

// Begins by saving a register, as most functions do: x86's push is emulated by the kernel under a probe
#ifdef __x86_64__
#define SAVED "rbx"
#else
#define SAVED "x19"
#endif
__attribute__((noinline)) long work(long i)
{
	__asm__ volatile("" : "+r"(i) : : SAVED);
	return i * 3 + 1;
}

int main(int argc, char **argv)
{
	const long rate = argc > 1 ? atol(argv[1]) : 0;
	const struct timespec pause = { 0, 10000000 };
	uint64_t calls = 0, before = 0, cpu = 0, begun = now_ns(CLOCK_MONOTONIC), second = begun + 1000000000u;

	signal(SIGTERM, end);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (!ended) {
		uint64_t now = now_ns(CLOCK_MONOTONIC);
		uint64_t due = rate ? (uint64_t)((double)(now - begun) * (double)rate / 1e9) : calls + 200;
		const int behind = due > calls + 10000;

		if (behind)
			due = calls + 10000;
		for (; calls < due && !ended; calls++)
			work((long)calls);
		if (now >= second) {
			uint64_t used = now_ns(CLOCK_PROCESS_CPUTIME_ID);

			printf("%llu %llu\n", (unsigned long long)(calls - before), (unsigned long long)(used - cpu) / 1000);
			before = calls;
			cpu = used;
			second = now + 1000000000u;
		}
		if (rate && !behind)
			nanosleep(&pause, NULL);
	}
#ifdef NEWER
	if (argc > 99)
		return (int)other(argc);
#endif
	printf("{\"calls\": %llu}\n", (unsigned long long)calls);
	return 0;
}
