/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* exitsnoop: processes, or threads, that end. */
#include "vmlinux.h"
#include "task.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "exitsnoop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct exit_event *unused_exit_event __attribute__((unused)); /* see the anchor in site.bpf.h */

const volatile bool failed_only = false;
const volatile bool each_thread = false;

#define SIGNAL_GROUP_EXIT 4 /* include/linux/sched/signal.h: group_exit_code is the process's */

/*
 * Processes that were shown. Only Linux 6.17 says which thread is a process's last one (group_dead); without it two that
 * end at the same time both find that no thread is left.
 */
struct process {
	__u64 began;
	__u64 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct process);
	__type(value, __u8);
} shown SEC(".maps");

static __always_inline bool is_last(struct task_struct *task, struct task_struct *leader)
{
	struct process process = { BPF_CORE_READ(leader, start_time), BPF_CORE_READ(task, tgid) };
	__u8 yes = 1;

	if (BPF_CORE_READ(task, signal, live.counter))
		return false;
	return bpf_map_update_elem(&shown, &process, &yes, BPF_NOEXIST) == 0;
}

/*
 * Not a raw tracepoint, whose programs can be preempted since Linux 7.0: another thread that ended on the same CPU
 * meanwhile would be missed. A tracepoint's perf event keeps others out.
 */
SEC("tp/sched/sched_process_exit")
int on_exit(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader), *who = each_thread ? task : leader;
	struct exit_event *event;
	__u32 code;

	if (!wanted_here(current_pid_tgid()) || (!each_thread && !is_last(task, leader)))
		return 0;
	code = BPF_CORE_READ(who, exit_code);
	if (!each_thread && BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		code = BPF_CORE_READ(task, signal, group_exit_code);
	if (failed_only && !code)
		return 0;
	event = reserve(sizeof(*event));
	if (!event)
		return 0;
	actor_here(&event->actor, current_pid_tgid());
	if (!each_thread) {
		event->actor.tid = event->actor.tgid;
		BPF_CORE_READ_INTO(&event->actor.comm, leader, comm);
	}
	event->age = event->actor.time - BPF_CORE_READ(who, start_time);
	event->ppid = tgid_of(BPF_CORE_READ(leader, real_parent));
	event->code = code;
	submit(event);
	return 0;
}
