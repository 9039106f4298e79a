/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading a socket's addresses and ports, and filtering by them. Include after vmlinux.h, sock.h and bpf_core_read.h. */
#ifndef __PYEBPF_FLOW_BPF_H
#define __PYEBPF_FLOW_BPF_H

#include "flow.h"

const volatile __u16 only_family = 0;
const volatile __u32 only_netns = 0;
const volatile bool filter_local_ports = false;
const volatile bool filter_remote_ports = false;

struct port_set {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u16);
	__type(value, __u8);
};
struct port_set local_ports SEC(".maps");
struct port_set remote_ports SEC(".maps");

static __always_inline __u16 network_order(__u16 port)
{
	return __builtin_bswap16(port);
}

/* False: not a socket of IPv4 or IPv6. */
static __always_inline bool flow_of(struct sock *sk, struct flow *flow)
{
	struct in6_addr address;

	__builtin_memset(flow, 0, sizeof(*flow));
	flow->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	flow->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (!flow->local_port) /* given back when the connection closed */
		flow->local_port = network_order(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	flow->remote_port = network_order(BPF_CORE_READ(sk, __sk_common.skc_dport));
	flow->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (flow->family == AF_INET6) {
		bpf_core_read(flow->remote, sizeof(flow->remote), &sk->__sk_common.skc_v6_daddr);
		bpf_core_read(flow->local, sizeof(flow->local), &sk->__sk_common.skc_v6_rcv_saddr);
		__builtin_memcpy(&address, flow->remote, sizeof(address));
		if (address.in6_u.u6_addr32[0] || address.in6_u.u6_addr32[1] ||
		    address.in6_u.u6_addr32[2] != __builtin_bswap32(0xffff))
			return true;
		flow->family = AF_INET; /* mapped: its IPv4 addresses are kept too */
		__builtin_memset(flow->remote, 0, sizeof(flow->remote));
		__builtin_memset(flow->local, 0, sizeof(flow->local));
	}
	if (flow->family != AF_INET)
		return false;
	bpf_core_read(flow->remote, 4, &sk->__sk_common.skc_daddr);
	bpf_core_read(flow->local, 4, &sk->__sk_common.skc_rcv_saddr);
	return true;
}

static __always_inline bool flow_wanted(const struct flow *flow)
{
	/* Copies: before Linux 6.2 a key must not be in a record of the ring buffer. */
	__u16 local_port = flow->local_port, remote_port = flow->remote_port;

	if (only_family && flow->family != only_family)
		return false;
	if (only_netns && flow->netns != only_netns)
		return false;
	if (filter_local_ports && !bpf_map_lookup_elem(&local_ports, &local_port))
		return false;
	return !filter_remote_ports || bpf_map_lookup_elem(&remote_ports, &remote_port);
}

#endif
