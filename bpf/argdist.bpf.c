/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* argdist: how often each combination of values occurs, or a log2 histogram of one value. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "argdist.h"
#include "include/capture.bpf.h"
#include "include/log2.bpf.h"
#include "include/stripes.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool want_histogram = false;
const volatile bool is_signed = false;   /* the histogram's value is */
const volatile __u32 value_offset = 0;   /* where in the capture the histogram's value is kept: 8 bytes */

/*
 * Key: struct capture, then entry_size + return_size bytes; value: u64. Python sets key_size. Nothing is ever taken out:
 * an interval is a difference.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct capture));
	__uint(value_size, sizeof(__u64));
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct distribution);
} histograms SEC(".maps");

/* See the anchor in site.bpf.h. */
const enum distribution_buckets *unused_distribution_buckets __attribute__((unused));

static __always_inline void count_combination(struct machine *m)
{
	struct capture *key = &m->call.capture;
	__u64 *count = bpf_map_lookup_elem(&counts, key), zero = 0;

	if (!count) {
		bpf_map_update_elem(&counts, key, &zero, BPF_NOEXIST); /* another CPU may have been faster */
		count = bpf_map_lookup_elem(&counts, key);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		TALLY(uncounted);
}

static __always_inline void count_value(struct machine *m)
{
	__u32 row = striped(m->call.capture.function), bucket = 0;
	struct distribution *distribution = bpf_map_lookup_elem(&histograms, &row);
	__u64 value;

	if (!distribution)
		return;
	if (m->call.capture.failed_entry || m->call.capture.failed_return) {
		TALLY(failed);
		return;
	}
	value = *(__u64 *)(captured(m) + value_offset);
	if (is_signed && (__s64)value < 0)
		bucket = DISTRIBUTION_NEGATIVE + floor_log2(-value);
	else if (value)
		bucket = 1 + floor_log2(value);
	asm volatile("" : "+r"(bucket)); /* clang knows that the mask is idle, the verifier doesn't */
	__sync_fetch_and_add(&distribution->buckets[bucket & (DISTRIBUTION_BUCKETS - 1)], 1);
}

/*
 * What is counted at once in several ways is counted by as many objects. They are attached one after the other, so user
 * space lets them begin and end together.
 */
bool counting = false;

static __always_inline void count(struct machine *m)
{
	if (!*(volatile bool *)&counting)
		return;
	if (want_histogram)
		count_value(m);
	else
		count_combination(m);
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_enter(&hit, ctx, true, false))
		count(hit.machine);
	return 0;
}

SEC("uprobe")
int on_return(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_leave(&hit, ctx, true, false))
		count(hit.machine);
	return 0;
}

SEC("uprobe.s")
int on_entry_sleepable(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_enter(&hit, ctx, true, true))
		count(hit.machine);
	return 0;
}

SEC("uprobe.s")
int on_return_sleepable(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_leave(&hit, ctx, true, true))
		count(hit.machine);
	return 0;
}
