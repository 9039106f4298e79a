/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_BUCKETS_BPF_H
#define __PYEBPF_BUCKETS_BPF_H

#include "buckets.h"
#include "log2.bpf.h"

/* See the anchor in site.bpf.h. */
const enum latency_buckets *unused_latency_buckets __attribute__((unused));

static __always_inline __u32 bucket_of(__u64 value)
{
	const __u32 width = 1 << SUB_BUCKET_BITS;
	__u32 exponent;

	if (value < width)
		return value;
	exponent = floor_log2(value);
	return (exponent - SUB_BUCKET_BITS + 1) * width + (value >> (exponent - SUB_BUCKET_BITS) & (width - 1));
}

static __always_inline void count_into(__u64 *buckets, __u64 value)
{
	__u32 bucket = bucket_of(value);

	asm volatile("" : "+r"(bucket)); /* clang knows that the mask is idle, the verifier doesn't */
	__sync_fetch_and_add(&buckets[bucket & (BUCKET_ROOM - 1)], 1);
}

#endif
