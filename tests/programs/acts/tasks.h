// SPDX-License-Identifier: BSD-2-Clause
// Acts on processes and threads: programs that start, ends, signals, users, names of hosts.
#pragma once

#include <netdb.h>
#include <sys/resource.h>

#include "core.h"

static char *const *exec_words;
static const char *exec_path, *exec_how;

static void do_exec(void)
{
	if (strcmp(exec_how, "execveat") == 0)
		syscall(SYS_execveat, AT_FDCWD, exec_path, exec_words, environ, 0);
	else if (strcmp(exec_how, "fd") == 0)
		syscall(SYS_execveat, open(exec_path, O_PATH | O_CLOEXEC), "", exec_words, environ, AT_EMPTY_PATH);
	else
		execve(exec_path, exec_words, environ);
}

static void *exec_main(void *argument)
{
	do_exec();
	*(int *)argument = errno;
	return NULL;
}

// exec HOW PATH ARGUMENT...: in a child, execve, execveat, fd (execveat of an open file) or thread (execve, not by the
// first thread); "child": its pid; errno: of the exec; "status": of the child; start, end: before the fork,
// after the wait
static void act_exec(struct Act *act)
{
	int tube[2], failed = 0, status = 0;
	pthread_t handle;

	exec_how = word(act, 0);
	exec_path = path_word(act, 1);
	exec_words = act->words + 2; // ends with the first word that isn't there
	MUST(pipe2(tube, O_CLOEXEC));
	CALL(act, fork());
	if (act->ret == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		if (strcmp(exec_how, "thread") == 0) {
			pthread_create(&handle, NULL, exec_main, &failed);
			pthread_join(handle, NULL);
		} else {
			do_exec();
			failed = errno;
		}
		_exit(write(tube[1], &failed, sizeof failed) == sizeof failed ? 99 : 98);
	}
	close(tube[1]);
	if (read(tube[0], &failed, sizeof failed) != sizeof failed)
		failed = 0;
	close(tube[0]);
	MUST(waitpid((pid_t)act->ret, &status, 0));
	act->end = now_ns();
	act->error = failed;
	reply_number(act, "child", act->ret);
	reply_number(act, "status", status);
}

static volatile int first_thread = 1;

static void *ends_main(void *argument)
{
	struct Act *act = argument;

	if (is(act, 0, "group"))
		syscall(SYS_exit_group, (int)number(act, 1));
	while (first_thread != 0) // the kernel clears it on the thread's way out
		wait_us(1000);
	wait_us(10000);
	syscall(SYS_exit, (int)number(act, 1));
	return NULL;
}

// end HOW CODE COMM: a child ends so: exit (exit_group by its first thread), group (by another one), leader (its first
// thread ends before the last one), signal (that kills it), core (the same, may write a core file of no size).
// "child", "status" (of wait), "core": says wait
static void act_end(struct Act *act)
{
	struct rlimit none = { 0, 0 }, all = { RLIM_INFINITY, RLIM_INFINITY };
	bool is_core = is(act, 0, "core");
	int status = 0;
	pthread_t handle;

	CALL(act, fork());
	if (act->ret == 0) {
		prctl(PR_SET_NAME, word(act, 2));
		setrlimit(RLIMIT_CORE, is_core ? &all : &none);
		if (is(act, 0, "group") || is(act, 0, "leader")) {
			pthread_create(&handle, NULL, ends_main, act);
			if (is(act, 0, "leader")) {
				syscall(SYS_set_tid_address, &first_thread);
				syscall(SYS_exit, 0);
			}
			pthread_join(handle, NULL);
		} else if (is(act, 0, "signal") || is_core) {
			signal((int)number(act, 1), SIG_DFL);
			kill(getpid(), (int)number(act, 1));
		}
		_exit((int)number(act, 1));
	}
	MUST(waitpid((pid_t)act->ret, &status, 0));
	act->end = now_ns();
	reply_number(act, "child", act->ret);
	reply_number(act, "status", status);
	fprintf(act->out, ", \"core\": %s", WIFSIGNALED(status) && WCOREDUMP(status) ? "true" : "false");
}

static volatile sig_atomic_t handled[65];

static void on_signal(int number)
{
	handled[number]++;
}

// handle SIGNAL: installs a handler that counts
static void act_handle(struct Act *act)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	CALL(act, sigaction((int)number(act, 0), &action, NULL));
}

// handled SIGNAL: ret is how many came
static void act_handled(struct Act *act)
{
	act->ret = handled[number(act, 0)];
}

// kill HOW PID SIGNAL TID: kill, tkill, tgkill, sigqueue, tgsigqueue, pidfd
static void act_kill(struct Act *act)
{
	int pid = (int)number(act, 1), which = (int)number(act, 2), tid = (int)number(act, 3);
	siginfo_t info = { .si_signo = which, .si_code = SI_QUEUE };

	info.si_pid = getpid();
	info.si_uid = getuid();
	if (is(act, 0, "kill")) {
		CALL(act, syscall(SYS_kill, pid, which));
	} else if (is(act, 0, "tkill")) {
		CALL(act, syscall(SYS_tkill, tid, which));
	} else if (is(act, 0, "tgkill")) {
		CALL(act, syscall(SYS_tgkill, pid, tid, which));
	} else if (is(act, 0, "sigqueue")) {
		CALL(act, syscall(SYS_rt_sigqueueinfo, pid, which, &info));
	} else if (is(act, 0, "tgsigqueue")) {
		CALL(act, syscall(SYS_rt_tgsigqueueinfo, pid, tid, which, &info));
	} else if (is(act, 0, "pidfd")) {
		int fd = (int)MUST(syscall(SYS_pidfd_open, pid, 0));
		CALL(act, syscall(SYS_pidfd_send_signal, fd, which, NULL, 0));
		close(fd);
	} else {
		wrong("no such way to kill: %s", word(act, 0));
	}
}

// user UID: setuid of the whole process
static void act_user(struct Act *act)
{
	CALL(act, setuid((uid_t)number(act, 0)));
}

// resolve HOW NAME: getaddrinfo, gethostbyname, gethostbyname2; ret is the library's result (0, EAI_..., h_errno)
static void act_resolve(struct Act *act)
{
	struct addrinfo *found = NULL;
	const char *name = word(act, 1);

	if (is(act, 0, "getaddrinfo")) {
		CALL(act, getaddrinfo(name, NULL, NULL, &found));
		if (act->ret == 0)
			freeaddrinfo(found);
	} else if (is(act, 0, "gethostbyname")) {
		CALL(act, gethostbyname(name) ? 0 : h_errno);
	} else {
		CALL(act, gethostbyname2(name, AF_INET) ? 0 : h_errno);
	}
	act->error = 0;
}

TRACED void *short_lived(void *argument)
{
	*(int *)argument = thread_id();
	return NULL;
}

// threads NUMBER: pthread_create(short_lived), one after another, each joined; "tids"
static void act_threads(struct Act *act)
{
	long rounds = number(act, 0);

	fprintf(act->out, ", \"tids\": [");
	act->start = now_ns();
	for (long i = 0; i < rounds; i++) {
		pthread_t handle;
		int tid = 0;
		if ((act->error = pthread_create(&handle, NULL, short_lived, &tid)) != 0)
			break;
		pthread_join(handle, NULL);
		fprintf(act->out, "%s%d", i ? ", " : "", tid);
		act->ret = i + 1;
	}
	act->end = now_ns();
	fprintf(act->out, "]");
}

#define TASK_ACTS \
	{ "exec", act_exec }, { "end", act_end }, { "handle", act_handle }, { "handled", act_handled }, { "kill", act_kill }, \
	{ "user", act_user }, { "resolve", act_resolve }, { "threads", act_threads },
