/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* funclatency: how long calls take, one histogram a function. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "funclatency.h"

struct call {
	__u64 start; /* ns, CLOCK_MONOTONIC */
};
#include "include/frame.bpf.h"
#include "include/buckets.bpf.h"
#include "include/stripes.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct latency);
} latencies SEC(".maps");

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid();
	struct frame_key key;
	struct call call;

	own_stack();
	if (!wanted(pid_tgid) || !frame_of(ctx, site_cookie(ctx), pid_tgid, &key))
		return 0;
	call.start = bpf_ktime_get_ns();
	frame_enter(&key, &call);
	return 0;
}

SEC("uprobe")
int on_return(struct pt_regs *ctx)
{
	__u64 now = bpf_ktime_get_ns(), pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx), duration;
	struct latency *latency;
	struct frame_key key;
	struct call call;
	__u32 row;

	own_stack();
	if (!wanted(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key) || !frame_leave(&key, cookie, &call))
		return 0;

	row = striped(key.function);
	latency = bpf_map_lookup_elem(&latencies, &row);
	if (!latency)
		return 0;
	duration = now - call.start;
	count_into(latency->buckets, duration);
	__sync_fetch_and_add(&latency->total, duration);
	if (latency->max < duration)
		latency->max = duration;
	return 0;
}
