/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The processes that the wanted ones start, and theirs. Included by events.bpf.h. */
#ifndef __PYEBPF_FOLLOW_BPF_H
#define __PYEBPF_FOLLOW_BPF_H

const volatile bool follow_children = false;
/* Where child_pid lies in sched_process_fork's record: it moved in Linux 6.18. */
const volatile __u32 child_pid_offset = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* process number in the initial PID namespace, where a child's is known when it is made */
	__type(value, __u8);
} family SEC(".maps");

/* Is the current process wanted, or a descendant of one that is? */
static __always_inline bool wanted_family(__u64 pid_tgid)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (wanted(pid_tgid))
		return true;
	return follow_children && bpf_map_lookup_elem(&family, &tgid);
}

SEC("tp/sched/sched_process_fork")
int follow_fork(void *ctx)
{
	__u32 child = 0;
	__u8 one = 1;

	if (!wanted_family(current_pid_tgid()))
		return 0;
	bpf_probe_read_kernel(&child, sizeof(child), ctx + child_pid_offset); /* a new thread's number does no harm */
	if (bpf_map_update_elem(&family, &child, &one, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

SEC("tp/sched/sched_process_exit")
int follow_exit(void *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 tid = (__u32)pid_tgid;

	bpf_map_delete_elem(&family, &tid);
	return 0;
}

#endif
