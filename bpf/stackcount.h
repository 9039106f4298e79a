/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_STACKCOUNT_H
#define __PYEBPF_STACKCOUNT_H

enum stackcount_limits {
	STACKCOUNT_FRAMES = 127,  /* kernel.perf_event_max_stack as shipped */
	STACKCOUNT_MAPS = 4,      /* of user stacks, and as many of kernel stacks */
	STACKCOUNT_ROW_BITS = 24, /* of user_stack and kernel_stack: the row; above it the number of the map */
};

struct stack_key {
	__u32 tgid; /* 0 unless processes are told apart */
	__u32 function;
	__s32 user_stack;   /* row of user_stacks_N; negative errno when it could not be taken or kept, -1 if not wanted */
	__s32 kernel_stack; /* the same of kernel_stacks_N */
	__u64 caller;       /* return address, 0 if user stacks aren't wanted: the walk of frame pointers misses it */
};

struct stack_count {
	__u64 calls;
	char comm[16]; /* of the first thread that came here */
};

#endif
