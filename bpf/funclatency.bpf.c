/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* funclatency: how long calls take, one histogram a function. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "funclatency.h"

struct call {
	__u64 start; /* ns, CLOCK_MONOTONIC */
};
#include "include/frame.bpf.h"
#include "include/log2.bpf.h"
#include "include/stripes.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct latency);
} latencies SEC(".maps");

/* See the anchor in site.bpf.h. */
const enum latency_buckets *unused_latency_buckets __attribute__((unused));

static __always_inline __u32 bucket_of(__u64 ns)
{
	const __u32 width = 1 << SUB_BUCKET_BITS;
	__u32 exponent;

	if (ns < width)
		return ns;
	exponent = floor_log2(ns);
	return (exponent - SUB_BUCKET_BITS + 1) * width + (ns >> (exponent - SUB_BUCKET_BITS) & (width - 1));
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid();
	struct frame_key key;
	struct call call;

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
	__u32 row, bucket;

	if (!wanted(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key) || !frame_leave(&key, cookie, &call))
		return 0;

	row = striped(key.function);
	latency = bpf_map_lookup_elem(&latencies, &row);
	if (!latency)
		return 0;
	duration = now - call.start;
	bucket = bucket_of(duration);
	asm volatile("" : "+r"(bucket)); /* clang knows that the mask is idle, the verifier doesn't */
	__sync_fetch_and_add(&latency->buckets[bucket & (BUCKET_ROOM - 1)], 1);
	__sync_fetch_and_add(&latency->total, duration);
	if (latency->max < duration)
		latency->max = duration;
	return 0;
}
