/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The registers of a trapped user program: struct user_pt_regs of the arm64 uapi, which is the first part of the
 * kernel's struct pt_regs. Fixed by the ABI, hence without preserve_access_index (see x86.h).
 */
#ifndef __PYEBPF_ARCH_ARM64_H
#define __PYEBPF_ARCH_ARM64_H

struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};

struct pt_regs {
	struct user_pt_regs user_regs;
};

#endif
