/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* capable: checks of capabilities, and how they went. */
#include "vmlinux.h"
#include "task.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "capable.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct capable_event *unused_capable_event __attribute__((unused));
const struct capable_stacks *unused_capable_stacks __attribute__((unused));
const enum capable_options *unused_capable_options __attribute__((unused));

const volatile bool audited_only = false;
const volatile bool denied_only = false;
const volatile bool unique = false;
const volatile bool want_user_stack = false;
const volatile bool want_kernel_stack = false;

#define CAP_OPT_NOAUDIT 2 /* include/linux/security.h, since Linux 5.1 */

/* What has been shown, with `unique`. */
struct shown_check {
	__u64 started; /* of the process: numbers are used again */
	__u32 tgid;
	__s16 capability;
	__s16 denied;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct shown_check);
	__type(value, __u8);
} shown_checks SEC(".maps");

static __always_inline bool shown_before(__s32 capability, __s32 result)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct shown_check check = {
		.started = BPF_CORE_READ(task, group_leader, start_time),
		.tgid = bpf_get_current_pid_tgid() >> 32,
		.capability = capability,
		.denied = result != 0,
	};
	__u8 one = 1;

	return (int)bpf_map_update_elem(&shown_checks, &check, &one, BPF_NOEXIST) == -17; /* EEXIST */
}

static __always_inline int checked(void *ctx, __s32 capability, __s32 options, __s32 result)
{
	__u64 pid_tgid = current_pid_tgid();
	struct capable_stacks *stacks;
	struct capable_event *event;

	if (!wanted_here(pid_tgid) || (denied_only && !result))
		return 0;
	if (audited_only && options != OPTIONS_UNKNOWN && options & CAP_OPT_NOAUDIT)
		return 0;
	if (unique && shown_before(capability, result))
		return 0;
	if (want_user_stack || want_kernel_stack)
		stacks = reserve(sizeof(*stacks));
	else
		stacks = reserve(sizeof(*event));
	if (!stacks)
		return 0;
	event = &stacks->event;
	actor_here(&event->actor, pid_tgid);
	event->capability = capability;
	event->result = result;
	event->options = options;
	event->reserved = 0;
	event->user_stack_size = 0;
	event->kernel_stack_size = 0;
	if (want_user_stack)
		event->user_stack_size =
			bpf_get_stack(ctx, stacks->user_stack, sizeof(stacks->user_stack), BPF_F_USER_STACK);
	if (want_kernel_stack)
		event->kernel_stack_size = bpf_get_stack(ctx, stacks->kernel_stack, sizeof(stacks->kernel_stack), 0);
	submit(stacks);
	return 0;
}

struct cred;
struct user_namespace;

SEC("fexit/cap_capable")
int BPF_PROG(on_function, const struct cred *cred, struct user_namespace *namespace, int capability,
	     unsigned int options, int result)
{
	return checked(ctx, capability, options, result);
}

/* Since Linux 6.14. The options are not among its arguments. */
SEC("raw_tp/cap_capable")
int BPF_PROG(on_tracepoint, const struct cred *cred, struct user_namespace *target, struct user_namespace *capable,
	     int capability, int result)
{
	return checked(ctx, capability, OPTIONS_UNKNOWN, result);
}

struct begun {
	__s32 capability;
	__s32 options;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun);
} begun SEC(".maps");

SEC("kprobe/cap_capable")
int BPF_KPROBE(on_kprobe, const struct cred *cred, struct user_namespace *namespace, int capability,
	       unsigned int options)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun check = { capability, options };

	if (wanted_here(current_pid_tgid()) && bpf_map_update_elem(&begun, &thread, &check, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

SEC("kretprobe/cap_capable")
int BPF_KRETPROBE(on_kretprobe, int result)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *check = bpf_map_lookup_elem(&begun, &thread);

	if (!check)
		return 0;
	checked(ctx, check->capability, check->options, result);
	bpf_map_delete_elem(&begun, &thread);
	return 0;
}
