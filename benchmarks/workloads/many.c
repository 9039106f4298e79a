/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Thousands of functions, which nobody calls. many.h, which is generated, has a line FUNCTION(name) for each, group by
 * group; SIZES are those of the groups. It obeys lines on standard input and answers each with a time (ns of
 * CLOCK_MONOTONIC):
 *
 *   watch G   waits until all functions of group G are changed by probes
 *   clear G   waits until all of them are as they were
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* Each is different, or the compiler makes one of them */
#define FUNCTION(name)                                   \
	__attribute__((noinline)) void name(void)        \
	{                                                \
		volatile int line = __COUNTER__;         \
		(void)line;                              \
	}
#include "many.h"
#undef FUNCTION

#define FUNCTION(name) name,
static void (*const functions[])(void) = {
#include "many.h"
};
static uint32_t original[sizeof(functions) / sizeof(*functions)];
static const int sizes[] = { SIZES };

static uint32_t first_bytes(int number)
{
	return *(volatile uint32_t *)(uintptr_t)functions[number];
}

static int is(int first, int count, int changed)
{
	for (int number = first; number < first + count; number++)
		if ((first_bytes(number) != original[number]) != changed)
			return 0;
	return 1;
}

int main(void)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 };
	char line[64], what[16];
	struct timespec t;
	int group;

	for (unsigned int number = 0; number < sizeof(functions) / sizeof(*functions); number++)
		original[number] = first_bytes((int)number);
	prctl(PR_SET_TIMERSLACK, 1L);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		int first = 0;

		if (sscanf(line, "%15s %d", what, &group) != 2 || group < 0 ||
		    group >= (int)(sizeof(sizes) / sizeof(*sizes)))
			return 2;
		for (int before = 0; before < group; before++)
			first += sizes[before];
		while (!is(first, sizes[group], *what == 'w'))
			nanosleep(&pause, NULL);
		clock_gettime(CLOCK_MONOTONIC, &t);
		printf("%lld\n", t.tv_sec * 1000000000LL + t.tv_nsec);
	}
	return 0;
}
