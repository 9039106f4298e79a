/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * launch FD SECONDS COMMAND...: runs a command, kills it when it takes longer, and writes to the descriptor:
 * start and end (ns of CLOCK_MONOTONIC), peak memory (KiB), CPU time (us), exit status (-signal), 1 if it was killed.
 *
 * It is a program of its own because a process inherits the peak memory of the one that started it, and Python's
 * would hide a small tool's.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile pid_t child;
static volatile sig_atomic_t killed;

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t microseconds(struct timeval t)
{
	return t.tv_sec * 1000000LL + t.tv_usec;
}

static void on_alarm(int signal_number)
{
	(void)signal_number;
	killed = 1;
	kill(child, SIGKILL);
}

int main(int argc, char **argv)
{
	struct rusage usage;
	int64_t start;
	int report, status;

	if (argc < 4)
		return 2;
	report = atoi(argv[1]);
	signal(SIGALRM, on_alarm);
	start = now();
	child = fork();
	if (!child) {
		close(report);
		execvp(argv[3], argv + 3);
		_exit(127);
	}
	signal(SIGINT, SIG_IGN); /* Ctrl-C is for the command, which ends then */
	alarm(atoi(argv[2]));
	while (wait4(child, &status, 0, &usage) < 0)
		;
	dprintf(report, "%lld %lld %ld %lld %d %d\n", (long long)start, (long long)now(), usage.ru_maxrss,
		(long long)(microseconds(usage.ru_utime) + microseconds(usage.ru_stime)),
		WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), killed);
	return 0;
}
