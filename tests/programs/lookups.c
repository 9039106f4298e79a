// SPDX-License-Identifier: BSD-2-Clause
// Looks names up in every way that libc has: lookups FUNCTION COUNT NAME. The truth counts those that failed in "failed".
#define _GNU_SOURCE
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "truth.h"

// Whether an address was found
static int look_up(const char *function, const char *name)
{
	struct hostent host, *found = NULL;
	struct addrinfo hints = { .ai_family = AF_UNSPEC }, *list = NULL;
	static char room[65536];
	int error;

	if (strcmp(function, "getaddrinfo") == 0) {
		if (getaddrinfo(name, "80", &hints, &list) != 0)
			return 0;
		freeaddrinfo(list);
		return 1;
	}
	if (strcmp(function, "gethostbyname") == 0)
		found = gethostbyname(name);
	else if (strcmp(function, "gethostbyname2") == 0)
		found = gethostbyname2(name, AF_INET);
	else if (strcmp(function, "gethostbyname_r") == 0)
		gethostbyname_r(name, &host, room, sizeof room, &found, &error);
	else if (strcmp(function, "gethostbyname2_r") == 0)
		gethostbyname2_r(name, AF_INET, &host, room, sizeof room, &found, &error);
	return found != NULL;
}

int main(int argc, char **argv)
{
	int count = atoi(argv[2]), failed = 0;

	ready("lookups");
	for (int i = 0; i < count; i++)
		CALLED(argv[1], failed += !look_up(argv[1], argv[3]));
	begin_truth("lookups");
	printf(", \"failed\": %d", failed);
	end_truth();
	return 0;
}
