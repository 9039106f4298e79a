/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_FUNCSLOWER_H
#define __PYEBPF_FUNCSLOWER_H

enum slower_limits {
	SLOWER_ARGUMENTS = 6,
	SLOWER_FRAMES = 127, /* kernel.perf_event_max_stack as shipped */
};

struct slow_call {
	__u64 time;     /* ns, CLOCK_MONOTONIC, at the return */
	__u64 duration; /* ns */
	__u64 result;   /* the first result register */
	__u64 goid;     /* goroutine id; 0 when the function isn't Go or it can't be read */
	__u64 caller;   /* return address, 0 at a kernel return probe */
	__u64 arguments[SLOWER_ARGUMENTS];
	__u32 tgid;
	__u32 tid;
	__u32 function;
	__s32 user_stack_size;   /* bytes; negative errno when it could not be taken */
	__s32 kernel_stack_size; /* bytes; negative errno when it could not be taken */
	__u32 popped;            /* a kernel return probe: the innermost frame is the caller */
	char comm[16];
};

/* What is sent when stacks are wanted. */
struct slow_call_stacks {
	struct slow_call call;
	__u64 user_stack[SLOWER_FRAMES];
	__u64 kernel_stack[SLOWER_FRAMES];
};

#endif
