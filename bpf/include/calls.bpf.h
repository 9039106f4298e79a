/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls seen from their beginning to their end: what they were given is kept a thread, and read when they return,
 * as the kernel has read it meanwhile (its pages are there). Include after events.bpf.h and syscalls.h.
 */
#ifndef __PYEBPF_CALLS_BPF_H
#define __PYEBPF_CALLS_BPF_H

struct begun_call {
	__u64 time; /* ns, CLOCK_MONOTONIC */
	__u64 args[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun_call);
} begun_calls SEC(".maps");

/* A program may not look behind the arguments that the system call has: `count`, a constant. */
static __always_inline int call_begins(struct syscall_enter *ctx, const __u32 count)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun_call begun = {};

	if (!wanted_here(current_pid_tgid()))
		return 0;
	begun.time = bpf_ktime_get_ns();
	__builtin_memcpy(begun.args, ctx->args, count * sizeof(begun.args[0]));
	if (bpf_map_update_elem(&begun_calls, &thread, &begun, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

static __always_inline struct begun_call *call_begun(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&begun_calls, &thread);
}

static __always_inline void call_forget(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&begun_calls, &thread);
}

/*
 * The two programs of a system call that has so many arguments; the tool's `call_ends(struct syscall_exit *, struct
 * begun_call *, const __u32 call)` makes the record.
 */
#define WATCH_CALL(name, count, number)                                                                                \
	SEC("tp/syscalls/sys_enter_" #name)                                                                            \
	int enter_##name(struct syscall_enter *ctx)                                                                    \
	{                                                                                                              \
		return call_begins(ctx, count);                                                                        \
	}                                                                                                              \
	SEC("tp/syscalls/sys_exit_" #name)                                                                             \
	int exit_##name(struct syscall_exit *ctx)                                                                      \
	{                                                                                                              \
		struct begun_call *begun = call_begun();                                                               \
                                                                                                                       \
		if (begun) {                                                                                           \
			call_ends(ctx, begun, number);                                                                 \
			call_forget();                                                                                 \
		}                                                                                                      \
		return 0;                                                                                              \
	}

#endif
