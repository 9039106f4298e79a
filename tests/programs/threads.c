// SPDX-License-Identifier: BSD-2-Clause
// Makes threads one after the other, every third with another function: threads COUNT
#include <pthread.h>
#include <stdlib.h>

#include "truth.h"

TRACED static void *first(void *argument)
{
	return argument;
}

TRACED static void *second(void *argument)
{
	OPAQUE(argument);
	return NULL;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 23;
	pthread_t thread;

	ready("threads");
	for (int i = 0; i < count; i++) {
		if (pthread_create(&thread, NULL, i % 3 == 2 ? second : first, (void *)(intptr_t)i) != 0)
			abort();
		truth_of(i % 3 == 2 ? "second" : "first")->calls++;
		pthread_join(thread, NULL);
	}
	begin_truth("threads");
	end_truth();
	wait_for_line(); // until the test has looked up what it needs
	return 0;
}
