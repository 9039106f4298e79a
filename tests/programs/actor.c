// SPDX-License-Identifier: BSD-2-Clause
// Makes the system calls it is told to, and says what they returned: actor [-c COMM] [-n NETNS|new] [-x COMMAND...]
//
//   gcc -g -O2 -Wall -pthread -o actor actor.c
//
// Prints {"ready": "actor", "pid": P}. A line is ID WHO ACT[+MEMORY] WORD..., its answer one line of JSON:
//
//   > 7 . connect 3 127.0.0.1 8080 block 1000
//   < {"id": 7, "act": "connect", "pid": 4711, "tid": 4711, "comm": "client", "ret": 0, "errno": 0, "start": NS,
//      "end": NS, "lhost": "127.0.0.1", "lport": 40000, "rhost": "127.0.0.1", "rport": 8080}
//
// WHO: "." for this thread, or a thread or child made by the acts thread and fork ("child/thread" for a thread of a
// child); they work at the same time. WORD: bytes that are not plain are %XX, an empty word is -. MEMORY: where path
// names are, see special(). start and end: CLOCK_MONOTONIC, around the call. The acts: acts/*.h, tests/traffic.py and
// tests/causes.py. -n: in that network namespace, or in a new one with its loopback up; -x: becomes the command there.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>

#include "acts/core.h"
#include "acts/net.h"

#include "acts/files.h"
#include "acts/tasks.h"

static const struct Handler *handler(const char *name)
{
	static const struct Handler handlers[] = {
		{ "thread", act_thread }, { "fork", act_fork }, { "reap", act_reap }, { "comm", act_comm }, { "exit", act_exit },
		{ "socket", act_socket }, { "option", act_option }, { "bind", act_bind }, { "listen", act_listen },
		{ "connect", act_connect }, { "finish", act_finish }, { "accept", act_accept }, { "send", act_send },
		{ "receive", act_receive }, { "stuff", act_stuff }, { "info", act_info }, { "shutdown", act_shutdown },
		{ "close", act_close }, { "burst", act_burst }, { "serve", act_serve }, { "noise", act_noise },
		{ "segment", act_segment },
		FILE_ACTS TASK_ACTS
	};

	for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++)
		if (strcmp(handlers[i].name, name) == 0)
			return &handlers[i];
	return NULL;
}

int main(int argc, char **argv)
{
	int option, fd;

	signal(SIGPIPE, SIG_IGN);
	while ((option = getopt(argc, argv, "+c:n:x")) != -1) {
		switch (option) {
		case 'c': prctl(PR_SET_NAME, optarg); break;
		case 'n':
			if (strcmp(optarg, "new") == 0) {
				MUST(unshare(CLONE_NEWNET));
				loopback_up();
			} else {
				fd = (int)MUST(open(optarg, O_RDONLY | O_CLOEXEC));
				MUST(setns(fd, CLONE_NEWNET));
				close(fd);
			}
			break;
		case 'x':
			signal(SIGPIPE, SIG_DFL);
			execvp(argv[optind], argv + optind);
			wrong("%s: %s", argv[optind], strerror(errno));
		default: return 2;
		}
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); // a test that is killed leaves nobody behind
	prepare_speaking();
	printf("{\"ready\": \"actor\", \"pid\": %d}\n", (int)getpid());
	fflush(stdout);
	serve_lines(stdin);
	_exit(0);
}
