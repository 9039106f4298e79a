// SPDX-License-Identifier: BSD-2-Clause
// Works at a bounded rate until it gets a line, and checks all it does: steady [-r CALLS_A_SECOND]
//
//   gcc -O2 -Wall -pthread -I.. -o steady steady.c
//
//   step_0 ... step_511   one after the other; each mixes a number, and a copy that is never traced mixes another one
//   text("name-I", I)     once for each of a hundred steps
//   a file is opened and closed, a connection over loopback made, used for eight bytes and reset: fifty a second each
//
// "checksum" and "expected": of the traced functions and of the copy. "calls": "step" and "text". "opened", "connected": how
// often; "wrong": what of all this didn't come out as it must.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "../truth.h"

#define REPEAT8(M, n) M(n##0) M(n##1) M(n##2) M(n##3) M(n##4) M(n##5) M(n##6) M(n##7)
#define REPEAT64(M, n) REPEAT8(M, n##0) REPEAT8(M, n##1) REPEAT8(M, n##2) REPEAT8(M, n##3) \
	REPEAT8(M, n##4) REPEAT8(M, n##5) REPEAT8(M, n##6) REPEAT8(M, n##7)
#define REPEAT512(M) REPEAT64(M, 0) REPEAT64(M, 1) REPEAT64(M, 2) REPEAT64(M, 3) \
	REPEAT64(M, 4) REPEAT64(M, 5) REPEAT64(M, 6) REPEAT64(M, 7)

// The names are octal numbers, and so are the constants
#define STEP(n) TRACED uint64_t step_##n(uint64_t x) { OPAQUE(x); return (x ^ 0##n) * 6364136223846793005u + 1; }
#define POINTER(n) step_##n,

REPEAT512(STEP)

static uint64_t (*const steps[])(uint64_t) = { REPEAT512(POINTER) };
static volatile int ended;
static uint64_t opened, connected, wrong;

TRACED size_t text(const char *name, int number)
{
	size_t length = strlen(name);

	OPAQUE(number); // no tail call
	OPAQUE(length);
	return length;
}

static void *files(void *nothing)
{
	while (!ended) {
		int fd = open("/etc/hostname", O_RDONLY | O_CLOEXEC);

		if (fd < 0 || close(fd))
			__sync_fetch_and_add(&wrong, 1);
		opened++;
		wait_us(20000);
	}
	return nothing;
}

static void *connections(void *nothing)
{
	const struct linger reset = { 1, 0 };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, 16) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		abort();
	while (!ended) {
		int fd = socket(AF_INET, SOCK_STREAM, 0), accepted = -1;
		uint64_t sent = ++connected, received = 0;

		if (connect(fd, (struct sockaddr *)&address, length) || (accepted = accept(listener, NULL, NULL)) < 0 ||
		    send(fd, &sent, sizeof(sent), 0) != sizeof(sent) ||
		    recv(accepted, &received, sizeof(received), MSG_WAITALL) != sizeof(received) || received != sent)
			__sync_fetch_and_add(&wrong, 1);
		close(accepted);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		wait_us(20000);
	}
	close(listener);
	return nothing;
}

int main(int argc, char **argv)
{
	long rate = argc > 2 && strcmp(argv[1], "-r") == 0 ? atol(argv[2]) : 5000;
	uint64_t checksum = 1, expected = 1, calls = 0, texts = 0, begun;
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	pthread_t helpers[2];
	char name[32];

	ready("steady");
	if (pthread_create(&helpers[0], NULL, files, NULL) || pthread_create(&helpers[1], NULL, connections, NULL))
		abort();
	begun = now_ns();
	while (poll(&input, 1, 5) == 0) {
		uint64_t due = calls + (uint64_t)rate / 10, now = (uint64_t)((double)(now_ns() - begun) * (double)rate / 1e9);

		for (due = now < due ? now : due; calls < due; calls++) {
			checksum = steps[calls % 512](checksum);
			expected = (expected ^ calls % 512) * 6364136223846793005u + 1;
			if (calls % 100 == 0) {
				snprintf(name, sizeof(name), "name-%d", (int)texts);
				if (text(name, (int)texts++) != strlen(name))
					wrong++;
			}
		}
	}
	ended = 1;
	for (int i = 0; i < 2; i++)
		if (pthread_join(helpers[i], NULL))
			abort();
	truth_of("step")->calls = truth_of("step")->returns = calls;
	truth_of("text")->calls = truth_of("text")->returns = texts;
	begin_truth("steady");
	printf(", \"checksum\": %" PRIu64 ", \"expected\": %" PRIu64 ", \"opened\": %" PRIu64 ", \"connected\": %" PRIu64
	       ", \"wrong\": %" PRIu64, checksum, expected, opened, connected, wrong);
	end_truth();
	return 0;
}
