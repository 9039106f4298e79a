// SPDX-License-Identifier: BSD-2-Clause
// Functions whose machine code or symbol is awkward to probe, each called N times: shapes [-n N]
//
//   gcc -g -O2 -Wall -o shapes shapes.c        also: -static, -static-pie, -no-pie, clang
//
//   cold_split   gcc moves its error path into cold_split.cold, elsewhere in .text; taken for every 10th i
//   table        a switch: an indirect jump inside the function
//   frame        a frame of variable size: its unwind rule is not based on the stack pointer
//   sum          takes a variable number of arguments
//   indirect     an IFUNC (glibc only): the symbol is that of a resolver, what runs is indirect_plain
//   assembled    written in assembly, without unwind rules
//   trap_first   begins with a trap instruction; never called
#include <stdarg.h>
#include <stdlib.h>

#include "truth.h"

static long complaints;

__attribute__((cold, noinline)) static void complain(long i)
{
	OPAQUE(i);
	complaints++;
}

TRACED long cold_split(long i)
{
	if (__builtin_expect(i % 10 == 9, 0)) {
		complain(i);
		complain(i + 1);
		return -1;
	}
	OPAQUE(i);
	return i;
}

TRACED int table(int i)
{
	switch (i % 8) {
	case 0: OPAQUE(i); return i | 5;
	case 1: OPAQUE(i); return i * i;
	case 2: OPAQUE(i); return i * 3;
	case 3: OPAQUE(i); return i << 4;
	case 4: OPAQUE(i); return i - 9;
	case 5: OPAQUE(i); return i ^ 77;
	case 6: OPAQUE(i); return ~i;
	default: OPAQUE(i); return -i;
	}
}

TRACED size_t frame(size_t size)
{
	char room[size + 1];

	memset(room, 'x', size);
	room[size] = '\0';
	return strlen(room);
}

TRACED long sum(int count, ...)
{
	va_list list;
	long total = 0;

	va_start(list, count);
	while (count-- > 0)
		total += va_arg(list, long);
	va_end(list);
	return total;
}

#ifdef __GLIBC__
TRACED long indirect_plain(long i)
{
	OPAQUE(i);
	return i + 7;
}

__attribute__((used)) static long (*resolve_indirect(void))(long)
{
	return indirect_plain;
}

long indirect(long i) __attribute__((ifunc("resolve_indirect")));
#endif

long assembled(long i);
void trap_first(void);

#define FUNCTION(name) ".globl " #name "\n.type " #name ", %function\n" #name ":\n"
#define END(name) ".size " #name ", . - " #name "\n"

#if defined(__x86_64__)
__asm__(".text\n" FUNCTION(assembled) "lea 1(%rdi), %rax\nret\n" END(assembled)
        FUNCTION(trap_first) "int3\nret\n" END(trap_first));
#elif defined(__aarch64__)
__asm__(".text\n.balign 4\n" FUNCTION(assembled) "add x0, x0, #1\nret\n" END(assembled)
        FUNCTION(trap_first) "brk #0\nret\n" END(trap_first));
#else
#error "x86-64 or arm64"
#endif

int main(int argc, char **argv)
{
	long rounds = 997;
	int option;

	while ((option = getopt(argc, argv, "n:")) != -1) {
		if (option != 'n')
			return 2;
		rounds = atol(optarg);
	}
	ready("shapes");
	for (long i = 0; i < rounds; i++) {
		CALLED("cold_split", cold_split(i));
		CALLED("table", table((int)i));
		CALLED("frame", frame((size_t)i % 1000));
		CALLED("sum", sum(3, i, i, i));
#ifdef __GLIBC__
		CALLED("indirect_plain", indirect(i));
#endif
		CALLED("assembled", assembled(i));
	}
	begin_truth("shapes");
	printf(", \"complaints\": %ld", complaints);
	end_truth();
	return 0;
}
