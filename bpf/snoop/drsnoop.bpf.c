/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* drsnoop: processes that had to free memory before they got some. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "drsnoop.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct reclaim_event *unused_reclaim_event __attribute__((unused));
const enum reclaim_cause *unused_reclaim_cause __attribute__((unused));

struct begun {
	__u64 time;
};

/* A thread that reclaims may take from the reserves (PF_MEMALLOC), so that it never reclaims within a reclaim. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun);
} begun SEC(".maps");

/* The arguments of the beginning are not read: Linux 7.2 changed their order. */
static __always_inline int begins(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun reclaim = {};

	if (!wanted_here(current_pid_tgid()))
		return 0;
	reclaim.time = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&begun, &thread, &reclaim, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

static __always_inline int ends(__u64 pages, __u32 cause)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *reclaim = bpf_map_lookup_elem(&begun, &thread);
	struct reclaim_event *event;

	if (!reclaim)
		return 0;
	event = reserve(sizeof(*event));
	if (event) {
		actor_here(&event->actor, current_pid_tgid());
		event->duration = event->actor.time - reclaim->time;
		event->pages = pages;
		event->cause = cause;
		event->reserved = 0;
		submit(event);
	}
	bpf_map_delete_elem(&begun, &thread);
	return 0;
}

SEC("raw_tp/mm_vmscan_direct_reclaim_begin")
int system_begins(void *ctx)
{
	return begins();
}

SEC("raw_tp/mm_vmscan_direct_reclaim_end")
int BPF_PROG(system_ends, unsigned long pages)
{
	return ends(pages, CAUSE_SYSTEM);
}

SEC("raw_tp/mm_vmscan_memcg_reclaim_begin")
int cgroup_begins(void *ctx)
{
	return begins();
}

SEC("raw_tp/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(cgroup_ends, unsigned long pages)
{
	return ends(pages, CAUSE_CGROUP);
}
