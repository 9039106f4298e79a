// SPDX-License-Identifier: BSD-2-Clause
// Processes that come, go and become others: spawns [-n N] [-t THREADS] [-l FILE] KIND
//
//   gcc -g -O2 -Wall -pthread -o spawns spawns.c -ldl      also: -static, -static-pie
//
//   vforks     works(i) in a child that shares the memory (vfork), and in the parent behind it; it exits or executes true
//   forks      works(i) in a child without exec, and in its own child; both come back
//   execs      works(i), then the process executes itself again, N times; every third time there is a thread beside
//   thread-execs  the same, but another thread than the first does it
//   crowd      THREADS threads at once, all inside waits(i) at the same moment, N times works(i) each
//   brief      N children one after the other, as many at once as THREADS; each calls works(i) once
//   loads      FILE is loaded, its work(i) called, and unloaded, N times, in THREADS threads
//   hardens    no_new_privs and not dumpable before it is ready; works(i) N times
//   strict     works(i) under SECCOMP_MODE_STRICT, N times, in a child that may only read, write and exit
//   filters    works(i) under a filter that kills for any system call but write and exit_group
//   eats       8 MB are touched and given back, and FILE is read, works(i) after each 64 KiB; N times
//   hot        works(i), N times
//   headless   the first thread ends, and another does what lingers does
//   lingers    a line of stdin, "FIRST COUNT": works(FIRST) and COUNT - 1 more; "line" is answered; ends with stdin
//
// SPAWNS_EARLY=FILE: loaded before it is ready, and unloaded again first of all.
#include "torture.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { WORKS, WAITS, FUNCTIONS };
static const char *const names[FUNCTIONS] = { "works", "waits" };

// May run where no system call is allowed
TRACED long works(long i)
{
	entered(WORKS);
	OPAQUE(i);
	left(WORKS);
	return i * 3 + 1;
}

static pthread_barrier_t barrier;

TRACED long waits(long i)
{
	entered(WAITS);
	pthread_barrier_wait(&barrier);
	OPAQUE(i);
	left(WAITS);
	return i + 2;
}

static void calls(long i)
{
	check((uint64_t)works(i), (uint64_t)(3 * i + 1));
}

static void ends_well(pid_t child)
{
	int status = 0;

	if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
		fprintf(stderr, "spawns: a child ended with %#x\n", status);
		abort();
	}
}

static void vforks(void)
{
	for (volatile long i = 0; i < rounds; i++) {
		pid_t child = vfork();

		if (child == 0) {
			calls(i);
			if (i % 8 == 0)
				execl("/bin/true", "true", (char *)NULL);
			_exit(0);
		}
		calls(i);
		ends_well(child);
		survived();
	}
}

static void forks(void)
{
	for (long i = 0; i < rounds; i++) {
		pid_t child = fork();

		if (child == 0) {
			pid_t own = fork();

			calls(i);
			if (own != 0)
				ends_well(own);
			_exit(0);
		}
		calls(i);
		ends_well(child);
		add(&shared->survived, 2);
	}
}

static void *stays(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void *executes(void *argument)
{
	char **argv = (char **)argument, count[32];

	snprintf(count, sizeof count, "%ld", rounds - 1);
	execl(rounds % 3 == 0 ? "/proc/self/exe" : argv[0], argv[0], "-n", count, kind, (char *)NULL);
	fails("exec");
	return NULL;
}

// What was counted is handed on as text: the shared memory goes with the exec
static void execs(char **argv)
{
	const char *before = getenv("SPAWNS");
	char text[128];
	pthread_t thread;

	if (before != NULL)
		sscanf(before, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &shared->calls[WORKS], &shared->survived,
		       &shared->checksum, &shared->expected);
	shared->returns[WORKS] = shared->calls[WORKS];
	calls(rounds);
	if (rounds == 0)
		return;
	survived();
	snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, shared->calls[WORKS], shared->survived,
		 shared->checksum, shared->expected);
	setenv("SPAWNS", text, 1);
	if (rounds % 3 == 0 && pthread_create(&thread, NULL, stays, NULL) != 0)
		fails("pthread_create");
	if (strcmp(kind, "execs") != 0 && pthread_create(&thread, NULL, executes, argv) == 0)
		stays(NULL);
	executes(argv);
}

static void *in_the_crowd(void *argument)
{
	long me = (long)(intptr_t)argument;

	check((uint64_t)waits(me), (uint64_t)me + 2);
	for (long i = 0; i < rounds; i++)
		calls(me + i);
	survived();
	return NULL;
}

static void crowd(void)
{
	pthread_t *handles = calloc((size_t)threads, sizeof *handles);
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 1 << 16);
	pthread_barrier_init(&barrier, NULL, (unsigned)threads);
	for (int i = 0; i < threads; i++) {
		errno = pthread_create(&handles[i], &attributes, in_the_crowd, (void *)(intptr_t)i);
		if (errno != 0)
			fails("pthread_create");
	}
	for (int i = 0; i < threads; i++)
		pthread_join(handles[i], NULL);
	free(handles);
}

static void *briefly(void *argument)
{
	for (long i = 0; i < rounds / threads; i++) {
		pid_t child = fork();

		if (child == 0) {
			calls(i);
			_exit(0);
		}
		ends_well(child);
		survived();
	}
	return argument;
}

static void *loads(void *argument)
{
	for (long i = 0; i < rounds; i++) {
		void *handle = dlopen(file, RTLD_NOW);
		long (*work)(long) = NULL;

		if (handle != NULL)
			*(void **)&work = dlsym(handle, "work");
		if (work == NULL) {
			fprintf(stderr, "spawns: %s\n", dlerror());
			abort();
		}
		entered(WORKS); // the library's
		check((uint64_t)work(i), (uint64_t)(5 * i + 2));
		left(WORKS);
		dlclose(handle);
		survived();
	}
	return argument;
}

static void in_threads(void *(*work)(void *))
{
	pthread_t handles[64];

	for (int i = 0; i < threads; i++)
		if (pthread_create(&handles[i], NULL, work, NULL) != 0)
			fails("pthread_create");
	for (int i = 0; i < threads; i++)
		pthread_join(handles[i], NULL);
}

// Calls as a line says: the first argument, and how many
static void lingers(void)
{
	char line[64];

	for (long at = 0; fgets(line, sizeof line, stdin) != NULL; at++) {
		long first = 0, count = 0;

		sscanf(line, "%ld %ld", &first, &count);
		for (long i = first; i < first + count; i++) {
			calls(i);
			survived();
		}
		printf("{\"line\": %ld}\n", at);
		fflush(stdout);
	}
}

static void *goes_on(void *unused)
{
	(void)unused;
	lingers();
	tells();
	exit(0);
}

static void headless(void)
{
	pthread_t other;

	if (pthread_create(&other, NULL, goes_on, NULL) != 0)
		fails("pthread_create");
	pthread_exit(NULL);
}

static void many(void)
{
	for (long i = 0; i < rounds; i++) {
		calls(i);
		survived();
	}
}

static void strict(void)
{
	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		many();
		syscall(SYS_exit, 0); // exit_group isn't allowed
	}
	ends_well(child);
}

static void filters(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // the system call's number
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof rules / sizeof *rules, rules };
	pid_t child = fork();

	if (child == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
			_exit(9);
		many();
		_exit(0);
	}
	ends_well(child);
}

static void hardens(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
		fails("prctl");
}

static void eats(void)
{
	enum { SIZE = 8 << 20 };
	static char buffer[1 << 16];

	for (long i = 0; i < rounds; i++) {
		unsigned char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int fd = open(file, O_RDONLY);

		if (memory == MAP_FAILED || fd < 0)
			fails(file);
		for (size_t at = 0; at < SIZE; at += 4096)
			memory[at] = (unsigned char)at;
		while (read(fd, buffer, sizeof buffer) > 0)
			calls(i);
		close(fd);
		munmap(memory, SIZE);
		survived();
	}
}

int main(int argc, char **argv)
{
	const char *early = getenv("SPAWNS_EARLY");
	void *handle = NULL;

	// Executed again, it is not to wait for the word again
	if (getenv("SPAWNS") != NULL && freopen("/dev/null", "r", stdin) == NULL)
		return 2;
	if (strcmp(argv[argc - 1], "hardens") == 0)
		hardens();
	if (early != NULL && (handle = dlopen(early, RTLD_NOW)) == NULL)
		fails(early);
	begins(argc, argv, names, FUNCTIONS);
	if (handle != NULL)
		dlclose(handle);
	if (strcmp(kind, "vforks") == 0)
		vforks();
	else if (strcmp(kind, "forks") == 0)
		forks();
	else if (strcmp(kind, "execs") == 0 || strcmp(kind, "thread-execs") == 0)
		execs(argv);
	else if (strcmp(kind, "crowd") == 0)
		crowd();
	else if (strcmp(kind, "brief") == 0)
		in_threads(briefly);
	else if (strcmp(kind, "loads") == 0)
		in_threads(loads);
	else if (strcmp(kind, "strict") == 0)
		strict();
	else if (strcmp(kind, "filters") == 0)
		filters();
	else if (strcmp(kind, "eats") == 0)
		eats();
	else if (strcmp(kind, "headless") == 0)
		headless();
	else if (strcmp(kind, "lingers") == 0)
		lingers();
	else if (strcmp(kind, "hot") == 0 || strcmp(kind, "hardens") == 0)
		many();
	else
		return 2;
	tells();
	return 0;
}
