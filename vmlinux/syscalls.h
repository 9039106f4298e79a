/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs of the tracepoints syscalls:sys_enter_* and sys_exit_* are given. ABI: the format files below
 * events/syscalls/ of tracefs (kernel/trace/trace.h, struct syscall_trace_enter and syscall_trace_exit; the 8 bytes in
 * front hold the event's common fields).
 */
#ifndef __PYEBPF_SYSCALLS_H
#define __PYEBPF_SYSCALLS_H

struct syscall_enter {
	__u64 common;
	__s32 number;
	__u32 pad;
	__u64 args[6];
};

struct syscall_exit {
	__u64 common;
	__s32 number;
	__u32 pad;
	__s64 ret;
};

#endif
