/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps a uprobe's program on the stack of the thread it runs in.
 *
 * Since Linux 6.13 (e00931c02568, "bpf: Enable private stack for eligible subprogs") a tracing program of 64 bytes of
 * stack and more has a stack per CPU, as the kernel doesn't run such a program a second time on a CPU where it is at work.
 * That doesn't hold for uprobes: a thread can be preempted within the program, or sleep in it if it is sleepable, and
 * another thread then overwrites its variables. A program with a tail call gets no such stack, even if the verifier finds
 * that the call is never reached and takes it out.
 *
 * Call it first in every program of a uprobe.
 */
#ifndef __PYEBPF_OWN_STACK_BPF_H
#define __PYEBPF_OWN_STACK_BPF_H

static __always_inline void own_stack(void)
{
	/* helper 12: bpf_tail_call */
	asm volatile("r0 = 0\n"
		     "if r0 == 0 goto 1f\n"
		     "call 12\n"
		     "1:\n"
		     :
		     :
		     : "r0"); /* never called: it changes nothing else */
}

#endif
