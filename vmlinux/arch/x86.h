/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The registers of a trapped user program. The layout is fixed by the ABI (ptrace, signal frames), so it carries
 * no preserve_access_index: a program that only reads registers needs no CO-RE relocation and loads on a kernel
 * without BTF.
 */
#ifndef __PYEBPF_ARCH_X86_H
#define __PYEBPF_ARCH_X86_H

struct pt_regs {
	unsigned long r15;
	unsigned long r14;
	unsigned long r13;
	unsigned long r12;
	unsigned long bp;
	unsigned long bx;
	unsigned long r11;
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long cs;
	unsigned long flags;
	unsigned long sp;
	unsigned long ss;
};

#endif
