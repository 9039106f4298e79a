/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * events LOOP DIRECTORY CPU: makes events of one kind, on one CPU:
 *
 *   open     opens and closes a file
 *   stat     asks for a file's status
 *   signal   sends SIGCONT to a process that waits
 *   exec     starts a program and waits for its end
 *   connect  a TCP connection over loopback: connect, accept, close the client's end, close the server's
 *   message  100 bytes through a TCP connection over loopback
 *
 * It obeys lines on standard input and answers each with a line of JSON:
 *
 *   mark     from now on the events bear a new mark, by which they are found in a tool's output: the file's name, the
 *            program's, the process's number, or the server's port
 *   run N    N loops, as fast as it goes
 *   pace US  a loop each US microseconds, until there is something to read
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Closed connections keep their ports for a minute; a prime number of addresses gives enough of them. */
#define ADDRESSES 251

static const char *directory;
static char mark[32];
static char path[4096];
static int listener = -1, sender = -1, receiver = -1;
static struct sockaddr_in server;
static pid_t waiting;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void mark_file(int number)
{
	snprintf(mark, sizeof(mark), "opened-%d", number);
	snprintf(path, sizeof(path), "%s/%s", directory, mark);
	if (mknod(path, S_IFREG | 0600, 0)) /* not open: that would be an event */
		die(path);
}

static void open_file(long number)
{
	int fd = open(path, O_RDONLY);

	(void)number;
	if (fd < 0 || close(fd))
		die(path);
}

static void ask_status(long number)
{
	struct stat status;

	(void)number;
	if (stat(path, &status))
		die(path);
}

static void mark_process(int number)
{
	(void)number;
	if (waiting)
		kill(waiting, SIGKILL);
	waiting = fork();
	if (waiting < 0)
		die("fork");
	if (!waiting) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	snprintf(mark, sizeof(mark), "%d", waiting);
}

static void send_signal(long number)
{
	(void)number;
	if (kill(waiting, SIGCONT))
		die("kill");
}

static void mark_program(int number)
{
	char original[4096];

	snprintf(original, sizeof(original), "%s/nothing", directory);
	snprintf(mark, sizeof(mark), "nothing-%d", number);
	snprintf(path, sizeof(path), "%s/%s", directory, mark);
	if (link(original, path))
		die(path);
}

static void start_program(long number)
{
	char *arguments[] = { path, NULL }, *environment[] = { NULL };
	pid_t pid;
	int status;

	(void)number;
	if (posix_spawn(&pid, path, NULL, NULL, arguments, environment) || waitpid(pid, &status, 0) != pid || status)
		die(path);
}

static void mark_port(int number)
{
	socklen_t length = sizeof(server);

	(void)number;
	if (listener >= 0)
		close(listener);
	memset(&server, 0, sizeof(server));
	server.sin_family = AF_INET;
	server.sin_addr.s_addr = htonl(INADDR_ANY);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&server, sizeof(server)) || listen(listener, 16) ||
	    getsockname(listener, (struct sockaddr *)&server, &length))
		die("listen");
	snprintf(mark, sizeof(mark), "%d", ntohs(server.sin_port));
}

static int connection(long number, int *accepted)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number % ADDRESSES);
	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server)))
		die("connect");
	*accepted = accept(listener, NULL, NULL);
	if (*accepted < 0)
		die("accept");
	return fd;
}

static void connect_and_close(long number)
{
	int accepted, fd = connection(number, &accepted);

	close(fd);
	close(accepted);
}

static void mark_connection(int number)
{
	if (sender >= 0) {
		close(sender);
		close(receiver);
	}
	mark_port(number);
	sender = connection(0, &receiver);
}

static void send_message(long number)
{
	char data[100] = "";

	(void)number;
	if (send(sender, data, sizeof(data), 0) != sizeof(data) ||
	    recv(receiver, data, sizeof(data), MSG_WAITALL) != sizeof(data))
		die("send");
}

static const struct {
	const char *name;
	void (*mark)(int number);
	void (*loop)(long number);
} loops[] = {
	{ "open", mark_file, open_file },
	{ "stat", mark_file, ask_status },
	{ "signal", mark_process, send_signal },
	{ "exec", mark_program, start_program },
	{ "connect", mark_port, connect_and_close },
	{ "message", mark_connection, send_message },
};

static long pace(void (*loop)(long), long microseconds)
{
	const struct timespec pause = { .tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000 };
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	long done = 0;

	while (!poll(&input, 1, 0)) {
		loop(done++);
		nanosleep(&pause, NULL);
	}
	return done;
}

int main(int argc, char **argv)
{
	unsigned int kind = 0;
	char line[64];
	cpu_set_t cpus;
	long count;
	int marks = 0;

	if (argc < 4)
		return 2;
	while (strcmp(loops[kind].name, argv[1]))
		if (++kind == sizeof(loops) / sizeof(loops[0]))
			return 2;
	directory = argv[2];
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[3]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity");
	prctl(PR_SET_TIMERSLACK, 1L);
	setvbuf(stdin, NULL, _IONBF, 0); /* poll() sees nothing of what stdio has read ahead */
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		int64_t start = now();

		if (!strcmp(line, "mark\n")) {
			loops[kind].mark(++marks);
			count = 0;
		} else if (sscanf(line, "run %ld", &count) == 1) {
			for (long number = 0; number < count; number++)
				loops[kind].loop(number);
		} else if (sscanf(line, "pace %ld", &count) == 1) {
			count = pace(loops[kind].loop, count);
		} else {
			return 2;
		}
		printf("{\"loop\": \"%s\", \"mark\": \"%s\", \"count\": %ld, \"ns\": %lld}\n", argv[1], mark, count,
		       (long long)(now() - start));
	}
	return 0;
}
