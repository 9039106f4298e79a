/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program that is traced. It obeys lines on standard input and answers each with a line:
 *
 *   watch        waits until a traced function has been changed by a probe; answers the time (ns of CLOCK_MONOTONIC)
 *   clear        waits until all are as they were; answers the time
 *   calls N      calls traced() N times; answers how long that took (ns), as those below do
 *   values N R   calls traced_values() N times, R times a second (0: as fast as it goes)
 *   keys N K     the same as fast as it goes, with the first argument 0 .. K-1 in turns
 *   stacks N K   calls traced() N times by K different ways in turns, K at most 2^17
 *   threads N T  calls traced() N times, in T threads
 *   rets N       calls traced_ret() N times
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define DEPTH 17

/*
 * Compiled with a frame pointer, so it begins with "push %rbp", which the kernel emulates; other instructions are
 * single-stepped. The variable is there to keep the frame.
 */
__attribute__((noinline, noclone)) void traced(void)
{
	volatile int nothing = 0;

	(void)nothing;
}

/* For tools that show arguments: two integers and a string. */
__attribute__((noinline, noclone)) void traced_values(int first, long second, const char *text)
{
	const void *volatile nothing = text;

	(void)first;
	(void)second;
	(void)nothing;
}

/* A function that is only its return. */
void traced_ret(void);
__asm__(".text\n.globl traced_ret\n.type traced_ret, %function\ntraced_ret:\n\tret\n.size traced_ret, .-traced_ret\n");

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

struct bytes {
	uint32_t of[3];
};

static struct bytes first_bytes(void)
{
	return (struct bytes){ {
		*(volatile uint32_t *)(uintptr_t)traced,
		*(volatile uint32_t *)(uintptr_t)traced_values,
		*(volatile uint32_t *)(uintptr_t)traced_ret,
	} };
}

static int64_t wait_until(const struct bytes *original, int changed)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 };

	for (;;) {
		struct bytes there = first_bytes();

		if (!!memcmp(&there, original, sizeof(there)) == changed)
			return now();
		nanosleep(&pause, NULL);
	}
}

static void call_with_values(long calls, long per_second)
{
	const int64_t start = now();
	const int batch = 16; /* calls between two looks at the clock */

	for (long done = 0; done < calls; done++) {
		if (per_second && done % batch == 0)
			while (now() - start < done * (1000000000.0 / per_second))
				;
		traced_values((int)done, 3 * done, "GET /index.html HTTP");
	}
}

static void call_with_keys(long calls, long keys)
{
	for (long done = 0; done < calls; done++)
		traced_values((int)(done % keys), 3 * done, "GET /index.html HTTP");
}

static void descend(unsigned int way, int depth);

/* Two ways down. What follows the call keeps it from becoming a jump. */
__attribute__((noinline, noclone)) void left(unsigned int way, int depth)
{
	volatile int nothing = 0;

	descend(way, depth);
	nothing = 1;
	(void)nothing;
}

__attribute__((noinline, noclone)) void right(unsigned int way, int depth)
{
	volatile int nothing = 0;

	descend(way, depth);
	nothing = 2;
	(void)nothing;
}

static inline __attribute__((always_inline)) void descend(unsigned int way, int depth)
{
	if (!depth)
		traced();
	else if (way & 1)
		left(way >> 1, depth - 1);
	else
		right(way >> 1, depth - 1);
}

static void call_by_ways(long calls, long ways)
{
	for (long done = 0; done < calls; done++)
		left((unsigned int)(done % ways), DEPTH);
}

static void *call(void *calls)
{
	for (long left_over = (long)calls; left_over > 0; left_over--)
		traced();
	return NULL;
}

static void call_in_threads(long calls, long count)
{
	pthread_t threads[256];

	for (long thread = 0; thread < count && thread < 256; thread++)
		if (pthread_create(&threads[thread], NULL, call, (void *)(calls / count)))
			exit(1);
	for (long thread = 0; thread < count && thread < 256; thread++)
		pthread_join(threads[thread], NULL);
}

int main(void)
{
	const struct bytes original = first_bytes();
	char line[64], what[16];
	long one, two;

	prctl(PR_SET_TIMERSLACK, 1L); /* a nanosleep of 100 us takes 50 us more otherwise */
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		int64_t start = now(), answer;

		one = two = 0;
		if (sscanf(line, "%15s %ld %ld", what, &one, &two) < 1)
			return 2;
		if (!strcmp(what, "watch") || !strcmp(what, "clear")) {
			printf("%lld\n", (long long)wait_until(&original, *what == 'w'));
			continue;
		}
		if (!strcmp(what, "calls"))
			call((void *)one);
		else if (!strcmp(what, "values"))
			call_with_values(one, two);
		else if (!strcmp(what, "keys"))
			call_with_keys(one, two);
		else if (!strcmp(what, "stacks"))
			call_by_ways(one, two);
		else if (!strcmp(what, "threads"))
			call_in_threads(one, two);
		else if (!strcmp(what, "rets"))
			while (one-- > 0)
				traced_ret();
		else
			return 2;
		answer = now() - start;
		printf("%lld\n", (long long)answer);
	}
	return 0;
}
