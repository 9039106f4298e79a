// SPDX-License-Identifier: BSD-2-Clause
// A shared library for `calls dlopen`:
//
//   gcc -g -O2 -Wall -fPIC -shared -Wl,-soname,libwork.so -o libwork.so libwork.c
#ifdef __clang__
#define TRACED __attribute__((noinline))
#else
#define TRACED __attribute__((noipa))
#endif

TRACED long work(long i)
{
	return i * 5 + 2;
}

// A second name of the same function
long work_alias(long i) __attribute__((alias("work")));
