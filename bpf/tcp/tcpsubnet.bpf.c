/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpsubnet: bytes sent, by the subnet that they go to. */
#include "vmlinux.h"
#include "sock.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpsubnet.h"
#include "include/events.bpf.h"
#include "include/flow.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct subnet);
	__type(value, __u32); /* index of what is counted */
} subnets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} bytes_sent SEC(".maps");

static __always_inline void sent(struct sock *sk, __u32 bytes)
{
	struct subnet remote = {.length = 32 + 128};
	struct flow flow;
	__u32 *index;
	__u64 *total;

	if (!wanted_here(current_pid_tgid()) || !flow_of(sk, &flow) || !flow_wanted(&flow))
		return;
	remote.family = flow.family;
	__builtin_memcpy(remote.address, flow.remote, sizeof(remote.address));
	index = bpf_map_lookup_elem(&subnets, &remote);
	total = index ? bpf_map_lookup_elem(&bytes_sent, index) : NULL;
	if (total)
		__sync_fetch_and_add(total, bytes);
}
#include "include/sent.bpf.h"
