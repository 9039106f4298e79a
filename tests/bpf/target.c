// SPDX-License-Identifier: BSD-2-Clause
// A library that tests probe, in their own process: functions, and static probes as <sys/sdt.h> would write them.

#define PROBE(provider, name, arguments, ...)                                                                       \
	__asm__ volatile("990: nop\n"                                                                               \
			 ".pushsection .note.stapsdt, \"\", \"note\"\n"                                             \
			 ".balign 4\n .4byte 992f-991f, 994f-993f, 3\n"                                             \
			 "991: .asciz \"stapsdt\"\n 992: .balign 4\n"                                               \
			 "993: .8byte 990b\n .8byte _.stapsdt.base\n .8byte 0\n"                                    \
			 ".asciz \"" provider "\"\n .asciz \"" name "\"\n .asciz \"" arguments "\"\n"               \
			 "994: .balign 4\n .popsection\n"                                                           \
			 ".ifndef _.stapsdt.base\n"                                                                 \
			 ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"                \
			 ".weak _.stapsdt.base\n .hidden _.stapsdt.base\n _.stapsdt.base: .space 1\n"               \
			 ".size _.stapsdt.base, 1\n .popsection\n .endif\n" ::__VA_ARGS__)

__attribute__((noinline)) long work(long number)
{
	__asm__ volatile("" : "+r"(number));
	return number * 3;
}

__attribute__((noinline)) long work_too(long number)
{
	__asm__ volatile("" : "+r"(number));
	return number + 1;
}

__attribute__((noinline)) long work_hard(long number)
{
	__asm__ volatile("" : "+r"(number));
	return number - 1;
}


__attribute__((noinline)) long probed(long first, int second)
{
	PROBE("mine", "visited", "-8@%0 -4@%1", "r"(first), "r"(second));
	return first + second;
}
