// SPDX-License-Identifier: BSD-2-Clause
// One kind of system call, or of call, as often and as fast as it can: many [-n N] [-t THREADS] [-C FOLDER] KIND
//
//   gcc -g -O2 -Wall -pthread -o many many.c
//
// N of them in each thread. Threads are made before it is ready, so that nothing else is done while it is traced; it
// says how many were "made" and waits for a second line before it exits. See truth.h.
//
//   open       openat of a name that isn't there, "none-I"      long    the same, of 1000 bytes
//   unreadable openat of a name at an address that isn't        stat    newfstatat of a name that isn't there
//   bind       of one port, to a socket that is bound           sync    fsync(-1)
//   kill       signal 0 to itself                               shm     shmget without a size
//   mount      umount2 of a name that isn't there               check   sethostname of a negative length: CAP_SYS_ADMIN
//   file       a file made and deleted in the current folder    files   all files made, then all deleted
//   fork       a child that exits                               exec    a child that execs what isn't there, and exits
//   thread     a thread that ends                               lookup  getaddrinfo("127.0.0.1")
//   call       many_calls(thread, i)                            text    many_texts("xxx...", i), of 199 bytes
//   jump       many_jumps(i), left by longjmp if i % 3 == 1     child   many_calls(thread, i), in a child each 100
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "truth.h"

static long rounds = 997, threads = 1;
static const char *kind = "open";
static atomic_long made;
static pthread_barrier_t begin;
static char long_text[1001];

TRACED long many_calls(long thread, long i)
{
	OPAQUE(i);
	return thread + i;
}

TRACED size_t many_texts(const char *text, long i)
{
	OPAQUE(i);
	return strlen(text);
}

TRACED long many_jumps(jmp_buf *back, long i)
{
	if (i % 3 == 1)
		longjmp(*back, 1);
	OPAQUE(i);
	return i;
}

static void *nothing(void *unused)
{
	return unused;
}

static void child(long thread, long i)
{
	static char *const none[] = { NULL };
	pid_t pid;

	if (strcmp(kind, "exec") == 0) {
		pid = vfork();
		if (pid == 0) {
			execve("/none", none, none);
			_exit(3);
		}
	} else {
		pid = fork();
		if (pid == 0) {
			for (int call = 0; call < 100 && kind[0] == 'c'; call++)
				many_calls(thread, i);
			_exit(3);
		}
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		abort();
}

static long once(long thread, long i, int fd)
{
	static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	struct sockaddr_in any = { .sin_family = AF_INET };
	pthread_t other;
	struct stat stat;
	char name[48];
	jmp_buf back;

	snprintf(name, sizeof name, "none-%ld-%ld", thread, i);
	switch (kind[0] << 8 | kind[1]) {
	case 'o' << 8 | 'p': openat(AT_FDCWD, name, O_RDONLY); return 1;
	case 'l' << 8 | 'o':
		if (kind[2] == 'n') {
			openat(AT_FDCWD, long_text, O_RDONLY);
			return 1;
		}
		if (getaddrinfo("127.0.0.1", NULL, &hints, &found) != 0)
			abort();
		freeaddrinfo(found);
		return 1;
	case 'u' << 8 | 'n': syscall(SYS_openat, AT_FDCWD, 8, O_RDONLY); return 1;
	case 's' << 8 | 't': fstatat(AT_FDCWD, name, &stat, 0); return 1;
	case 'b' << 8 | 'i': bind(fd, (struct sockaddr *)&any, sizeof any); return 1;
	case 's' << 8 | 'y': fsync(-1); return 1;
	case 'k' << 8 | 'i': kill(getpid(), 0); return 1;
	case 's' << 8 | 'h': shmget(IPC_PRIVATE, 0, 0600); return 1;
	case 'm' << 8 | 'o': umount2(name, 0); return 1;
	case 'c' << 8 | 'h':
		if (kind[2] == 'e') {
			syscall(SYS_sethostname, name, -1);
			return 1;
		}
		child(thread, i);
		return 100;
	case 'f' << 8 | 'i':
		if (kind[4] == 's')
			return 0;
		close(openat(AT_FDCWD, name, O_CREAT | O_EXCL | O_WRONLY, 0600));
		return unlink(name) == 0;
	case 'f' << 8 | 'o': case 'e' << 8 | 'x': child(thread, i); return 1;
	case 't' << 8 | 'h':
		if (pthread_create(&other, NULL, nothing, NULL) != 0)
			abort();
		pthread_join(other, NULL);
		return 1;
	case 'c' << 8 | 'a': many_calls(thread, i); return 1;
	case 't' << 8 | 'e': many_texts(long_text + sizeof long_text - 200, i); return 1;
	case 'j' << 8 | 'u':
		if (setjmp(back) == 0)
			many_jumps(&back, i);
		return 1;
	default: abort();
	}
}

static void *work(void *argument)
{
	const long thread = (long)argument;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in any = { .sin_family = AF_INET };
	long done = 0;
	char name[48];

	bind(fd, (struct sockaddr *)&any, sizeof any);
	pthread_barrier_wait(&begin); // all are there
	pthread_barrier_wait(&begin);
	for (long i = 0; i < rounds; i++)
		done += once(thread, i, fd);
	for (long i = 0; i < rounds && strcmp(kind, "files") == 0; i++) {
		snprintf(name, sizeof name, "none-%ld-%ld", thread, i);
		close(openat(AT_FDCWD, name, O_CREAT | O_EXCL | O_WRONLY, 0600));
	}
	for (long i = 0; i < rounds && strcmp(kind, "files") == 0; i++) {
		snprintf(name, sizeof name, "none-%ld-%ld", thread, i);
		done += unlink(name) == 0;
	}
	atomic_fetch_add(&made, done);
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&begin); // until it may end
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t handles[64];
	struct addrinfo *found;
	int option;

	while ((option = getopt(argc, argv, "n:t:C:")) != -1) {
		switch (option) {
		case 'n': rounds = atol(optarg); break;
		case 't': threads = atol(optarg); break;
		case 'C': if (chdir(optarg) != 0) return 2; break;
		default: return 2;
		}
	}
	if (optind < argc)
		kind = argv[optind];
	if (threads < 1 || threads > 64)
		return 2;
	memset(long_text, 'x', sizeof long_text - 1);
	if (getaddrinfo("127.0.0.1", NULL, NULL, &found) == 0) // what it opens the first time
		freeaddrinfo(found);
	pthread_barrier_init(&begin, NULL, (unsigned)threads + 1);
	for (long i = 0; i < threads; i++)
		if (pthread_create(&handles[i], NULL, work, (void *)i) != 0)
			abort();
	pthread_barrier_wait(&begin);
	ready("many");
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&begin);
	begin_truth("many");
	printf(", \"made\": %ld", atomic_load(&made));
	end_truth();
	wait_for_line();
	return 0;
}
