// SPDX-License-Identifier: BSD-2-Clause
// What the C and C++ programs under torture share. They are started as NAME [-n N] [-t THREADS] [-l FILE] [-w] KIND, say
// that they are ready (truth.h), and at the end print one line; with -w they wait for another one before they go on to end:
//
//   {"program": P, "pid": N, "calls": {F: n}, "returns": {F: n}, "survived": n, "checksum": n, "expected": n, ...}
//
// calls, returns: as in truth.h, of the functions that were called, in all threads and in all children that were forked: the
// counters are in memory that is shared. checksum: made of what the traced functions returned; expected: what it must be, made without calling them.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../truth.h"

static struct Shared {
	uint64_t calls[MOST_FUNCTIONS], returns[MOST_FUNCTIONS];
	uint64_t survived, checksum, expected;
} *shared;

static const char *const *function_names;
static int functions_named;

static long rounds = 997;
static int threads = 4;
static const char *file = "";
static const char *kind = "";
static int lingers_on;

static inline void add(uint64_t *counter, uint64_t value)
{
	__atomic_fetch_add(counter, value, __ATOMIC_RELAXED);
}

static inline void entered(int function)
{
	add(&shared->calls[function], 1);
}

static inline void left(int function)
{
	add(&shared->returns[function], 1);
}

static inline void survived(void)
{
	add(&shared->survived, 1);
}

// What a traced function returned, and what it should have returned
static inline void check(uint64_t got, uint64_t wanted)
{
	add(&shared->checksum, got);
	add(&shared->expected, wanted);
}

static inline void fails(const char *what)
{
	perror(what);
	abort();
}

// Reads the options; then says that it is ready, and waits
static inline void begins(int argc, char **argv, const char *const *names, int count)
{
	int option;

	function_names = names;
	functions_named = count;
	shared = (struct Shared *)mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fails("mmap");
	while ((option = getopt(argc, argv, "n:t:l:w")) != -1) {
		switch (option) {
		case 'n': rounds = atol(optarg); break;
		case 't': threads = atoi(optarg); break;
		case 'l': file = optarg; break;
		case 'w': lingers_on = 1; break;
		default: exit(2);
		}
	}
	if (optind < argc)
		kind = argv[optind];
	ready(argv[0]);
}

static inline void tells_counts(const char *key, const uint64_t *counts)
{
	const char *separator = "";

	printf(", \"%s\": {", key);
	for (int i = 0; i < functions_named; i++) {
		if (shared->calls[i] == 0)
			continue;
		printf("%s\"%s\": %" PRIu64, separator, function_names[i], counts[i]);
		separator = ", ";
	}
	printf("}");
}

static inline void tells_number(const char *key, uint64_t value)
{
	printf(", \"%s\": %" PRIu64, key, value);
}

// What every program tells; it may add numbers, and ends the line
static inline void begins_to_tell(void)
{
	printf("{\"program\": \"%s\", \"pid\": %d", kind, (int)getpid());
	tells_counts("calls", shared->calls);
	tells_counts("returns", shared->returns);
	tells_number("survived", shared->survived);
	tells_number("checksum", shared->checksum);
	tells_number("expected", shared->expected);
}

static inline void ends_telling(void)
{
	end_truth();
	if (lingers_on)
		wait_for_line();
}

static inline void tells(void)
{
	begins_to_tell();
	ends_telling();
}
