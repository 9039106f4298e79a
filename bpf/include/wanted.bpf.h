/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a process is one we trace, and what our /proc calls it. */
#ifndef __PYEBPF_WANTED_BPF_H
#define __PYEBPF_WANTED_BPF_H

/* The process filter: one process is compared with a constant, several are looked up. 0 and false: every process. */
const volatile __u32 only_tgid = 0;
const volatile bool filter_tgids = false;
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8);
} tgids SEC(".maps");

/* The tracer's own PID namespace when it isn't the initial one: process and thread numbers are seen from there. */
const volatile __u64 pidns_dev = 0;
const volatile __u64 pidns_ino = 0;

/* Process (upper half) and thread number (lower half) as the tracer's /proc shows them. 0: not visible there. */
static __always_inline __u64 current_pid_tgid(void)
{
	struct bpf_pidns_info ns = {};

	if (!pidns_ino)
		return bpf_get_current_pid_tgid();
	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &ns, sizeof(ns)))
		return 0;
	return (__u64)ns.tgid << 32 | ns.pid;
}

/*
 * Links carry a PID filter where the kernel has a right one. It is checked here all the same: before Linux 6.10
 * uprobe_multi matched one thread (46ba0e49b642, "bpf: fix multi-uprobe PID filtering logic"), and a perf event's
 * program ran in every process another tracer had put a breakpoint into.
 */
static __always_inline bool wanted(__u64 pid_tgid)
{
	__u32 tgid = pid_tgid >> 32;

	if (only_tgid)
		return tgid == only_tgid;
	if (filter_tgids)
		return bpf_map_lookup_elem(&tgids, &tgid);
	return true;
}

/* The same of the current process, where its number is needed for nothing else. */
static __always_inline bool current_wanted(void)
{
	return !(only_tgid || filter_tgids) || wanted(current_pid_tgid());
}

#endif
