/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcprtt: round-trip times of connections, looked at whenever one receives something. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcprtt.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owners.bpf.h"
#include "include/buckets.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const enum rtt_by *unused_rtt_by __attribute__((unused));

const volatile __u32 by = BY_NOTHING;
const volatile bool filter_owner = false;
const volatile bool filter_local = false;
const volatile bool filter_remote = false;
const volatile __u8 only_local[16] = {};
const volatile __u8 only_remote[16] = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct rtt_key);
	__type(value, struct rtt);
} rtts SEC(".maps");

static const struct rtt nothing_yet = {};

static __always_inline bool same(const __u8 *address, const volatile __u8 *only)
{
	__u64 ours[2];

	__builtin_memcpy(ours, address, 16);
	return ours[0] == ((const volatile __u64 *)only)[0] && ours[1] == ((const volatile __u64 *)only)[1];
}

SEC("raw_tp/tcp_probe")
int BPF_PROG(on_received, struct sock *sk)
{
	__u32 rtt = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3;
	struct rtt_key key = {};
	struct flow flow;
	struct rtt *found;

	if (!rtt || (filter_owner && !owner_wanted(owner_of(sk))) || !flow_of(sk, &flow) || !flow_wanted(&flow))
		return 0;
	if ((filter_local && !same(flow.local, only_local)) || (filter_remote && !same(flow.remote, only_remote)))
		return 0;
	if (by != BY_NOTHING) {
		__builtin_memcpy(key.address, by == BY_LOCAL ? flow.local : flow.remote, sizeof(key.address));
		key.family = flow.family;
	}
	found = bpf_map_lookup_elem(&rtts, &key);
	if (!found) {
		bpf_map_update_elem(&rtts, &key, &nothing_yet, BPF_NOEXIST);
		found = bpf_map_lookup_elem(&rtts, &key);
		if (!found) {
			COUNT_EVENT(untracked);
			return 0;
		}
	}
	count_into(found->buckets, rtt);
	__sync_fetch_and_add(&found->total, rtt);
	return 0;
}
