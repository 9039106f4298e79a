// SPDX-License-Identifier: BSD-2-Clause
// Functions of arm64 that begin or return with instructions that are awkward to probe, each called N times: arm64 [-n N]
//
//   aarch64-linux-gnu-gcc -g -O2 -Wall -o arm64 arm64.c
//
// Each returns 7 more than it is given; "wrong" says how often one didn't. Those called refused_… begin with what Linux
// doesn't probe, or would carry out wrongly.
#include <stdlib.h>

#include "truth.h"

// FUNCTION(name, instructions): what a compiler could have made of `long name(long i) { return i + 7; }`
#define FUNCTION(name, instructions) \
	long name(long i); \
	__asm__(".pushsection .text\n.balign 16\n.globl " #name "\n.type " #name ", %function\n" #name ":\n" \
		".cfi_startproc\n" instructions ".cfi_endproc\n.size " #name ", . - " #name "\n.popsection\n")

FUNCTION(bti, "hint #34\nadd x0, x0, #7\nret\n");
FUNCTION(sign, "hint #25\n.cfi_negate_ra_state\nadd x0, x0, #7\nhint #29\n.cfi_negate_ra_state\nret\n"); // paciasp, autiasp
FUNCTION(push, "stp x29, x30, [sp, #-16]!\n.cfi_def_cfa_offset 16\nadd x0, x0, #7\nldp x29, x30, [sp], #16\n"
	".cfi_def_cfa_offset 0\nret\n");
FUNCTION(relative, "adr x1, relative\nadr x2, relative\nsub x1, x1, x2\nadd x0, x0, x1\nadd x0, x0, #7\nret\n");
FUNCTION(page, "adrp x1, page\nadrp x2, page\nsub x1, x1, x2\nadd x0, x0, x1\nadd x0, x0, #7\nret\n");
FUNCTION(on_zero, "cbz x0, 1f\nadd x0, x0, #7\nret\n1:mov x0, #7\nret\n");
FUNCTION(on_bit, "tbz x0, #0, 1f\nadd x0, x0, #7\nret\n1:add x0, x0, #7\nret\n");
FUNCTION(on_flags, "b.eq 1f\nadd x0, x0, #7\nret\n1:add x0, x0, #7\nret\n");
FUNCTION(jump, "b 1f\nnop\n1:add x0, x0, #7\nret\n");
FUNCTION(barrier, "dmb ish\nadd x0, x0, #7\nret\n");
FUNCTION(thread, "mrs x1, tpidr_el0\nadd x0, x0, #7\nret\n");
FUNCTION(tail, "b bti\n"); // ends in the call of another
FUNCTION(exclusive, "sub x1, sp, #16\n1:ldxr x2, [x1]\nadd x2, x2, #1\nstxr w3, x2, [x1]\ncbnz w3, 1b\n"
	"add x0, x0, #7\nret\n");
FUNCTION(acquire, "ldar x1, [sp]\nadd x0, x0, #7\nret\n");
FUNCTION(refused_literal, "ldr x1, 1f\nadd x0, x0, x1\nret\n1:.quad 7\n");
FUNCTION(refused_vector, "ldr d0, 1f\nfmov x1, d0\nadd x0, x0, x1\nret\n1:.quad 7\n");
FUNCTION(refused_hint, "yield\nadd x0, x0, #7\nret\n");
FUNCTION(refused_call, ".inst 0xd4000001\nadd x0, xzr, x19\nadd x0, x0, #7\nret\n"); // svc; what was given is in x19
FUNCTION(left_signed, "hint #25\n.cfi_negate_ra_state\nadd x0, x0, #7\n.inst 0xd65f0bff\n"); // retaa

// More arguments than there are registers for them
TRACED long ten(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j)
{
	OPAQUE(a);
	return a + b + c + d + e + f + g + h + i + j;
}

static long call_of_system(long i) // getpid, by the function that begins with the call itself
{
	register long kept __asm__("x19") = i;
	register long number __asm__("x8") = SYS_getpid;
	register long result __asm__("x0") = i;

	__asm__ volatile("bl refused_call" : "+r"(result), "+r"(number), "+r"(kept) : : "x30", "memory", "cc");
	return result;
}

static const struct {
	const char *name;
	long (*function)(long);
} all[] = {
#define ONE(name) { #name, name }
	ONE(bti), ONE(sign), ONE(push), ONE(relative), ONE(page), ONE(on_zero), ONE(on_bit), ONE(on_flags), ONE(jump),
	ONE(barrier), ONE(thread), ONE(tail), ONE(exclusive), ONE(acquire), ONE(refused_literal),
	ONE(refused_vector), ONE(refused_hint), { "refused_call", call_of_system }, ONE(left_signed),
};

int main(int count, char **arguments)
{
	long n = count > 2 && !strcmp(arguments[1], "-n") ? atol(arguments[2]) : 997, wrong = 0;
	int authenticates = 0;

	for (FILE *info = fopen("/proc/cpuinfo", "r"); info != NULL; info = NULL) {
		char line[4096];

		while (fgets(line, sizeof line, info) != NULL)
			authenticates |= strstr(line, " paca") != NULL;
		fclose(info);
	}
	ready("arm64");
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		for (long j = 0; j < n && (authenticates || strcmp(all[i].name, "left_signed")); j++) {
			long result;

			CALLED(all[i].name, result = all[i].function(j));
			wrong += result != j + 7;
		}
	for (long j = 0; j < n; j++) {
		long result;

		CALLED("ten", result = ten(j, 2, 3, 4, 5, 6, 7, 8, 9, 10));
		wrong += result != j + 54;
	}
	begin_truth("arm64");
	printf(", \"wrong\": %ld", wrong);
	end_truth();
	return 0;
}
