/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program that is traced. It obeys lines on standard input and answers each with a line:
 *
 *   watch      waits until traced() has been changed by a probe; answers the time (ns of CLOCK_MONOTONIC)
 *   clear      waits until traced() is as it was; answers the time
 *   calls N    calls traced() N times; answers how long that took (ns)
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

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint32_t first_bytes(void)
{
	return *(volatile uint32_t *)(uintptr_t)traced;
}

static int64_t wait_until(uint32_t original, int changed)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 };

	while ((first_bytes() != original) != changed)
		nanosleep(&pause, NULL);
	return now();
}

int main(void)
{
	const uint32_t original = first_bytes();
	char line[64];
	long calls;

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
		}
	}
	return 0;
}
