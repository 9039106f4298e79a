/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* killsnoop: signals that are sent. */
#include "vmlinux.h"
#include "task.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "killsnoop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct kill_event *unused_kill_event __attribute__((unused)); /* see the anchor in site.bpf.h */

const volatile bool failed_only = false;
const volatile bool from_kernel = false; /* also what no call sent */
const volatile bool filter_signals = false;
const volatile bool wanted_zero = false;    /* signal 0 */
const volatile __u64 wanted_signals = 0;    /* bit 0: signal 1 */
const volatile __u32 only_target = 0;

#define SIGCHLD 17
/* include/uapi/asm-generic/siginfo.h: codes of the kernel's signals are above 0; SI_KERNEL tells nothing more. */
#define SI_KERNEL 0x80

struct begun {
	__u32 signal;
	__s32 target;
	__u32 call;
	__u32 sent; /* signals so far: one to each process of a group */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun);
} begun SEC(".maps");

static __always_inline bool signal_wanted(__u32 signal)
{
	if (!filter_signals)
		return true;
	return signal ? wanted_signals >> ((signal - 1) & 63) & 1 : wanted_zero;
}

static __always_inline int enter(enum kill_call call, __s32 target, __u32 signal)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun kill = { signal, target, call, 0 };

	/* All that come from a call are looked at, so that none is taken for one of the kernel's. */
	if (!from_kernel && (!wanted_here(current_pid_tgid()) || !signal_wanted(signal)))
		return 0;
	if (bpf_map_update_elem(&begun, &thread, &kill, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

/* A call that sent nothing: it failed, or only asked whether it could. */
static __always_inline int leave(struct syscall_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *kill = bpf_map_lookup_elem(&begun, &thread);
	struct kill_event *event;

	if (!kill)
		return 0;
	if ((ctx->ret >= 0 && (kill->sent || failed_only)) || (only_target && kill->target != only_target) ||
	    !signal_wanted(kill->signal) || !wanted_here(current_pid_tgid()))
		goto forget;
	event = reserve(sizeof(*event));
	if (!event)
		goto forget;
	actor_here(&event->actor, current_pid_tgid());
	event->target = kill->target;
	event->target_tid = 0;
	__builtin_memset(event->target_comm, 0, sizeof(event->target_comm));
	event->signal = kill->signal;
	event->result = ctx->ret;
	event->call = kill->call;
	event->outcome = KILL_NOTHING;
	event->is_actor = true;
	event->reserved = 0;
	submit(event);
forget:
	bpf_map_delete_elem(&begun, &thread);
	return 0;
}

/*
 * `info` is 0 or 1 for signals without one, and no pointer in the verifier's eyes since Linux 7.2: it is read from the
 * context's memory.
 */
SEC("raw_tp/signal_generate")
int BPF_PROG(on_signal, int signal, void *unused_info, struct task_struct *task, int to_group, int outcome)
{
	__u64 thread = bpf_get_current_pid_tgid(), info = 0;
	struct begun *kill = bpf_map_lookup_elem(&begun, &thread);
	struct task_struct *current = (void *)bpf_get_current_task();
	struct kill_event *event;
	bool is_actor = true;
	__u32 target;

	/* An interrupt in the middle of the call may send something else. */
	if (kill && kill->signal != signal)
		kill = NULL;
	if (!kill && (!from_kernel || failed_only))
		return 0;
	if (kill) {
		if (outcome == KILL_OVERFLOW) /* the call will fail */
			return 0;
		kill->sent++;
		if (failed_only)
			return 0;
	} else {
		__s32 code = SI_KERNEL;

		bpf_probe_read_kernel(&info, sizeof(info), &ctx[1]);
		if (info > 1)
			code = BPF_CORE_READ((struct kernel_siginfo *)info, si_code);
		/* A child that ends, or a fault of the process itself. All else may come from an interrupt. */
		is_actor = code > 0 && code < SI_KERNEL && (signal == SIGCHLD || task == current);
	}
	if (!signal_wanted(signal) || (is_actor && !wanted_here(current_pid_tgid())))
		return 0;
	/* Who sent it isn't known: it can't be somebody who was asked for. */
	if (!is_actor && (only_tgid || filter_tgids || only_tid || filter_uid || filter_cgroup))
		return 0;
	target = tgid_of(task);
	if (only_target && target != only_target)
		return 0;
	event = reserve(sizeof(*event));
	if (!event)
		return 0;
	actor_here(&event->actor, current_pid_tgid());
	event->target = target ?: NO_TARGET;
	event->target_tid = to_group ? 0 : tid_of(task);
	BPF_CORE_READ_INTO(&event->target_comm, task, comm);
	event->signal = signal;
	event->result = 0;
	event->call = kill ? kill->call : BY_KERNEL;
	event->outcome = outcome;
	event->is_actor = is_actor;
	event->reserved = 0;
	submit(event);
	return 0;
}

SEC("tp/syscalls/sys_enter_kill")
int enter_kill(struct syscall_enter *ctx)
{
	return enter(BY_KILL, ctx->args[0], ctx->args[1]);
}

SEC("tp/syscalls/sys_exit_kill")
int exit_kill(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_tkill")
int enter_tkill(struct syscall_enter *ctx)
{
	return enter(BY_TKILL, ctx->args[0], ctx->args[1]);
}

SEC("tp/syscalls/sys_exit_tkill")
int exit_tkill(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_tgkill")
int enter_tgkill(struct syscall_enter *ctx)
{
	return enter(BY_TGKILL, ctx->args[0], ctx->args[2]);
}

SEC("tp/syscalls/sys_exit_tgkill")
int exit_tgkill(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_rt_sigqueueinfo")
int enter_rt_sigqueueinfo(struct syscall_enter *ctx)
{
	return enter(BY_SIGQUEUE, ctx->args[0], ctx->args[1]);
}

SEC("tp/syscalls/sys_exit_rt_sigqueueinfo")
int exit_rt_sigqueueinfo(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_rt_tgsigqueueinfo")
int enter_rt_tgsigqueueinfo(struct syscall_enter *ctx)
{
	return enter(BY_TGSIGQUEUE, ctx->args[0], ctx->args[2]);
}

SEC("tp/syscalls/sys_exit_rt_tgsigqueueinfo")
int exit_rt_tgsigqueueinfo(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_pidfd_send_signal")
int enter_pidfd_send_signal(struct syscall_enter *ctx)
{
	return enter(BY_PIDFD, NO_TARGET, ctx->args[1]);
}

SEC("tp/syscalls/sys_exit_pidfd_send_signal")
int exit_pidfd_send_signal(struct syscall_exit *ctx)
{
	return leave(ctx);
}
