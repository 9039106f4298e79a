/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TRACE_H
#define __PYEBPF_TRACE_H

enum trace_limits {
	TRACE_FRAMES = 127, /* kernel.perf_event_max_stack as shipped */
};

/*
 * A record is this (struct traced_call_stacks if a stack is wanted), then entry_size bytes captured at the entry, then
 * return_size bytes captured at the return.
 */
struct traced_call {
	__u64 time;          /* ns, CLOCK_MONOTONIC: of the return, or of the entry when returns aren't probed */
	__u64 duration;      /* ns; 0 when returns aren't probed */
	__u64 goid;          /* goroutine id; 0 when the function isn't Go or it can't be read */
	__u64 caller;        /* return address, if a user stack is wanted; 0 at a kernel return probe */
	__u64 failed_entry;  /* bit n: the value in slot n of the entry's capture is -errno */
	__u64 failed_return; /* the same for the return's */
	__u32 tgid;
	__u32 tid;
	__u32 function;
	__s32 user_stack_size;   /* bytes; negative errno when it could not be taken */
	__s32 kernel_stack_size; /* bytes; negative errno when it could not be taken */
	__u32 popped;            /* a kernel return probe: the innermost frame is the caller */
	char comm[16];
};

struct traced_call_stacks {
	struct traced_call call;
	__u64 user_stack[TRACE_FRAMES];
	__u64 kernel_stack[TRACE_FRAMES];
};

#endif
