// SPDX-License-Identifier: BSD-2-Clause
// Many ways to one function
//
//   gcc -g -O2 -Wall -fno-omit-frame-pointer -o paths paths.c
//
// leaf() is called by PATHS different paths of left() and right(), LEVELS deep: the bits of the path's number. Path I calls
// it 1 + I % 3 times. Waits for a second line before it exits, as calls -w does. See truth.h.
#include "truth.h"

#ifndef PATHS
#define PATHS 997
#define LEVELS 10
#endif

TRACED long leaf(long path)
{
	OPAQUE(path);
	return path;
}

TRACED long right(long path, int level);

TRACED long left(long path, int level)
{
	long below = level == LEVELS ? leaf(path) : path >> level & 1 ? right(path, level + 1) : left(path, level + 1);

	OPAQUE(below);
	return below + 1;
}

TRACED long right(long path, int level)
{
	long below = level == LEVELS ? leaf(path) : path >> level & 1 ? right(path, level + 1) : left(path, level + 1);

	OPAQUE(below);
	return below + 2;
}

int main(void)
{
	long calls = 0;

	ready("paths");
	for (long path = 0; path < PATHS; path++)
		for (long i = 0; i <= path % 3; i++, calls++)
			left(path, 0);
	truth_of("leaf")->calls = truth_of("leaf")->returns = calls;
	begin_truth("paths");
	end_truth();
	wait_for_line();
	return 0;
}
