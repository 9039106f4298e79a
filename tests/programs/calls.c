// SPDX-License-Identifier: BSD-2-Clause
// Calls that a tracer can get wrong, one kind a word: calls [-n N] [-t THREADS] [-l LIBRARY] [-w] KIND...
//
//   gcc -g -O2 -Wall -pthread -o calls calls.c -ldl     also: -static, -static-pie, -no-pie, clang
//
//   hot        hot(i), N times: nothing but the call
//   nap        nap(us), N times: sleeps us = 100 * (1 + i % 10); "naps": the measured ns of each, in order
//   recurse    recurse(6), N times: seven frames, each sleeps 1 ms before it calls the next; ns is the sum over all
//              frames, measured inside of them
//   deep       deep(200), N times: 201 frames, without sleep; ns is that of the outermost frames
//   many       many(1, 2, 3, 4, 5, 6, 7, 8) == 204, N times: two arguments are on the stack
//   text       text("name-I", I), N times: a string
//   fails      fails(i), N times: -1 with errno for odd i, else i
//   threads    threaded(i), N times in each of THREADS threads at once; "threads": {tid: ns in its calls}
//   longjmp    jumper(i), N times: left by longjmp for odd i
//   tail       tail(i), N times: ends in a jump into tail_target, which returns for it
//   fork       hot(i), N times in a child as well; "child": {"pid": P, "calls": N}
//   dlopen     work(i), N times, out of LIBRARY (libwork.c), loaded now
//
// -w: after the truth is printed, waits for a second line (or the end of stdin) before it exits. See truth.h.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "truth.h"

enum { RECURSE = 6, DEEP = 200, MOST_THREADS = 64, MOST_NAPS = 10007 };

static long rounds = 997;
static int threads = 5;
static const char *library = "./libwork.so";

static uint64_t naps[MOST_NAPS];
static long naps_used;
static struct { int tid; uint64_t ns; } per_thread[MOST_THREADS];
static int threads_used;
static long child_pid, child_calls;
static jmp_buf landing;

TRACED long hot(long i)
{
	OPAQUE(i);
	return i * 3 + 1;
}

TRACED long nap(long us)
{
	wait_us(us);
	return us;
}

// Counts itself, being its own caller
TRACED long recurse(long left)
{
	struct Truth *truth = truth_of("recurse");
	uint64_t start = now_ns();
	long depth;

	truth->calls++;
	wait_us(1000);
	depth = left == 0 ? 0 : 1 + recurse(left - 1);
	truth->returns++;
	truth->ns += now_ns() - start;
	return depth;
}

TRACED long deep(long left)
{
	long below = left == 0 ? 0 : deep(left - 1);

	OPAQUE(below); // not a tail call, and no loop
	return below + 1;
}

TRACED long many(long a, long b, long c, long d, long e, long f, long g, long h)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}

TRACED size_t text(const char *name, int number)
{
	OPAQUE(number);
	return strlen(name);
}

TRACED int fails(int i)
{
	if (i % 2 == 0)
		return i;
	errno = EAGAIN;
	return -1;
}

TRACED long threaded(long i)
{
	if (i % 100 == 0)
		wait_us(200);
	return i;
}

TRACED long jumper(long i)
{
	if (i % 2 != 0)
		longjmp(landing, 1);
	OPAQUE(i);
	return i;
}

TRACED long tail_target(long i)
{
	OPAQUE(i);
	return i + 1;
}

TRACED long tail(long i)
{
	OPAQUE(i);
	return tail_target(i * 2);
}

static void *thread_main(void *argument)
{
	const int slot = (int)(intptr_t)argument;

	per_thread[slot].tid = thread_id();
	for (long i = 0; i < rounds; i++) {
		uint64_t start = now_ns();
		threaded(i);
		per_thread[slot].ns += now_ns() - start;
	}
	return NULL;
}

static void run_threads(void)
{
	pthread_t handles[MOST_THREADS];
	struct Truth *truth = truth_of("threaded");

	threads_used = threads < MOST_THREADS ? threads : MOST_THREADS;
	for (int i = 0; i < threads_used; i++)
		if (pthread_create(&handles[i], NULL, thread_main, (void *)(intptr_t)i) != 0)
			abort();
	for (int i = 0; i < threads_used; i++) {
		pthread_join(handles[i], NULL);
		truth->ns += per_thread[i].ns;
	}
	truth->calls = truth->returns = (uint64_t)(threads_used * rounds);
}

static void run_longjmp(void)
{
	static long i; // longjmp may undo a local
	static uint64_t start;
	static struct Truth *truth;

	truth = truth_of("jumper");
	for (i = 0; i < rounds; i++) {
		start = now_ns();
		truth->calls++;
		if (setjmp(landing) == 0) {
			jumper(i);
			truth->returns++;
			truth->ns += now_ns() - start;
		}
	}
}

static void run_fork(void)
{
	int status = 0;

	child_calls = rounds;
	child_pid = fork();
	if (child_pid == 0) {
		for (long i = 0; i < rounds; i++)
			hot(i);
		_exit(0);
	}
	for (long i = 0; i < rounds; i++)
		CALLED("hot", hot(i));
	if (child_pid < 0 || waitpid((pid_t)child_pid, &status, 0) < 0 || status != 0)
		abort();
}

static int run_dlopen(void)
{
	void *handle = dlopen(library, RTLD_NOW);
	long (*work)(long) = NULL;

	if (handle != NULL)
		*(void **)&work = dlsym(handle, "work");
	if (work == NULL) {
		fprintf(stderr, "calls: %s\n", dlerror());
		return 1;
	}
	for (long i = 0; i < rounds; i++)
		CALLED("work", work(i));
	return 0;
}

static void run_recurse(void)
{
	for (long i = 0; i < rounds; i++)
		recurse(RECURSE);
}

static void run_deep(void)
{
	for (long i = 0; i < rounds; i++) {
		CALLED("deep", deep(DEEP));
		truth_of("deep")->calls += DEEP;
		truth_of("deep")->returns += DEEP;
	}
}

static void run_nap(void)
{
	for (long i = 0; i < rounds && naps_used < MOST_NAPS; i++) {
		uint64_t start = now_ns();
		CALLED("nap", nap(100 * (1 + i % 10)));
		naps[naps_used++] = now_ns() - start;
	}
}

static void run_text(void)
{
	char name[32];

	for (long i = 0; i < rounds; i++) {
		snprintf(name, sizeof name, "name-%ld", i);
		CALLED("text", text(name, (int)i));
	}
}

// tail returns to its caller, but not by an instruction of its own
static void run_tail(void)
{
	for (long i = 0; i < rounds; i++)
		CALLED("tail_target", CALLED("tail", tail(i)));
}

static int run(const char *kind)
{
	if (strcmp(kind, "hot") == 0)
		for (long i = 0; i < rounds; i++)
			CALLED("hot", hot(i));
	else if (strcmp(kind, "nap") == 0)
		run_nap();
	else if (strcmp(kind, "recurse") == 0)
		run_recurse();
	else if (strcmp(kind, "deep") == 0)
		run_deep();
	else if (strcmp(kind, "many") == 0)
		for (long i = 0; i < rounds; i++)
			CALLED("many", many(1, 2, 3, 4, 5, 6, 7, 8));
	else if (strcmp(kind, "text") == 0)
		run_text();
	else if (strcmp(kind, "fails") == 0)
		for (long i = 0; i < rounds; i++)
			CALLED("fails", fails((int)i));
	else if (strcmp(kind, "threads") == 0)
		run_threads();
	else if (strcmp(kind, "longjmp") == 0)
		run_longjmp();
	else if (strcmp(kind, "tail") == 0)
		run_tail();
	else if (strcmp(kind, "fork") == 0)
		run_fork();
	else if (strcmp(kind, "dlopen") == 0)
		return run_dlopen();
	else {
		fprintf(stderr, "calls: no such kind: %s\n", kind);
		return 2;
	}
	return 0;
}

static void print_truth(void)
{
	begin_truth("calls");
	printf(", \"threads\": {");
	for (int i = 0; i < threads_used; i++)
		printf("%s\"%d\": %" PRIu64, i == 0 ? "" : ", ", per_thread[i].tid, per_thread[i].ns);
	printf("}, \"naps\": [");
	for (long i = 0; i < naps_used; i++)
		printf("%s%" PRIu64, i == 0 ? "" : ", ", naps[i]);
	printf("], \"child\": {\"pid\": %ld, \"calls\": %ld}", child_pid, child_calls);
	end_truth();
}

int main(int argc, char **argv)
{
	int option, status = 0, linger = 0;

	while ((option = getopt(argc, argv, "n:t:l:w")) != -1) {
		switch (option) {
		case 'n': rounds = atol(optarg); break;
		case 't': threads = atoi(optarg); break;
		case 'l': library = optarg; break;
		case 'w': linger = 1; break;
		default: return 2;
		}
	}
	ready("calls");
	for (; optind < argc && status == 0; optind++)
		status = run(argv[optind]);
	print_truth();
	if (linger)
		wait_for_line();
	return status;
}
