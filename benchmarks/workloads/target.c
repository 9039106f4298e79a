/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program that is traced. It obeys lines on standard input and answers each with a line:
 *
 *   watch      waits until traced() or traced_values() has been changed by a probe; answers the time (ns of
 *              CLOCK_MONOTONIC)
 *   clear      waits until both are as they were; answers the time
 *   calls N    calls traced() N times; answers how long that took (ns)
 *   values N R calls traced_values() N times, R times a second (0: as fast as it goes); answers how long it took (ns)
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

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

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint64_t first_bytes(void)
{
	return *(volatile uint32_t *)(uintptr_t)traced |
	       (uint64_t) * (volatile uint32_t *)(uintptr_t)traced_values << 32;
}

static int64_t wait_until(uint64_t original, int changed)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 };

	while ((first_bytes() != original) != changed)
		nanosleep(&pause, NULL);
	return now();
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

int main(void)
{
	const uint64_t original = first_bytes();
	char line[64];
	long calls, per_second;

	prctl(PR_SET_TIMERSLACK, 1L); /* a nanosleep of 100 us takes 50 us more otherwise */
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "watch\n")) {
			printf("%lld\n", (long long)wait_until(original, 1));
		} else if (!strcmp(line, "clear\n")) {
			printf("%lld\n", (long long)wait_until(original, 0));
		} else if (sscanf(line, "calls %ld", &calls) == 1) {
			int64_t start = now();

			while (calls-- > 0)
				traced();
			printf("%lld\n", (long long)(now() - start));
		} else if (sscanf(line, "values %ld %ld", &calls, &per_second) == 2) {
			int64_t start = now();

			call_with_values(calls, per_second);
			printf("%lld\n", (long long)(now() - start));
		}
	}
	return 0;
}
