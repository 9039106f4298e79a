// SPDX-License-Identifier: BSD-2-Clause
// What every C and C++ target shares: it says that it is there, waits to be told to begin, and tells the truth at the end.
//
//   {"ready": "calls", "pid": 4711}      printed first; a line on stdin, or its end, makes the program begin
//   {"program": "calls", "pid": 4711, "tid": 4711, "calls": {"hot": 997}, "returns": {"hot": 997}, "ns": {"hot": 81237}}
//
// calls: how often the function was entered. returns: how often it came back to its caller (was not left by an exception
// or a longjmp). ns: the durations of those that returned, by CLOCK_MONOTONIC (bpf_ktime_get_ns reads
// the same clock), measured around each call, so never less than a tracer sees. Programs add keys of their own.
#pragma once

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Never inlined, never copied for one caller, called for every call in the source
#ifdef __clang__
#define TRACED __attribute__((noinline, used))
#else
#define TRACED __attribute__((noipa, used))
#endif

// The compiler may neither see through a value nor move code across
#define OPAQUE(value) __asm__ volatile("" : "+r"(value) : : "memory")

enum { MOST_FUNCTIONS = 32 };

struct Truth {
	const char *name;
	uint64_t calls, returns, ns;
};

static struct Truth truths[MOST_FUNCTIONS];
static int truths_used;

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline int thread_id(void)
{
	return (int)syscall(SYS_gettid);
}

static inline void wait_us(long us)
{
	struct timespec t;

	t.tv_sec = us / 1000000;
	t.tv_nsec = us % 1000000 * 1000;
	nanosleep(&t, NULL);
}

// The entry for a function; one thread at a time may use it
static inline struct Truth *truth_of(const char *name)
{
	for (int i = 0; i < truths_used; i++)
		if (strcmp(truths[i].name, name) == 0)
			return &truths[i];
	truths[truths_used].name = name;
	return &truths[truths_used++];
}

// CALLED("hot", value = hot(i));
#define CALLED(function, call) do { \
	uint64_t start_ = enters(function); \
	call; \
	leaves(function, start_); \
} while (0)

static inline uint64_t enters(const char *function)
{
	truth_of(function)->calls++;
	return now_ns();
}

static inline void leaves(const char *function, uint64_t start)
{
	uint64_t end = now_ns();
	struct Truth *truth = truth_of(function);

	truth->returns++;
	truth->ns += end - start;
}

static inline void wait_for_line(void)
{
	char line[64];

	if (fgets(line, sizeof line, stdin) == NULL)
		clearerr(stdin);
}

static inline void ready(const char *program)
{
	printf("{\"ready\": \"%s\", \"pid\": %d}\n", program, (int)getpid());
	fflush(stdout);
	wait_for_line();
}

static inline void print_counts(const char *key, size_t field)
{
	const char *separator = "";

	printf(", \"%s\": {", key);
	for (int i = 0; i < truths_used; i++) {
		printf("%s\"%s\": %" PRIu64, separator, truths[i].name, *(const uint64_t *)((const char *)&truths[i] + field));
		separator = ", ";
	}
	printf("}");
}

// Leaves the object open: the program adds its own keys, each with a comma before it, and ends it with end_truth()
static inline void begin_truth(const char *program)
{
	printf("{\"program\": \"%s\", \"pid\": %d, \"tid\": %d", program, (int)getpid(), thread_id());
	print_counts("calls", offsetof(struct Truth, calls));
	print_counts("returns", offsetof(struct Truth, returns));
	print_counts("ns", offsetof(struct Truth, ns));
}

static inline void end_truth(void)
{
	printf("}\n");
	fflush(stdout);
}
