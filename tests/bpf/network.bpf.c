// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Programs on interfaces, control groups and network namespaces. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 packets, egress, sockets, second;

SEC("xdp")
int on_packet(struct xdp_md *packet)
{
	__sync_fetch_and_add(&packets, 1);
	return XDP_PASS;
}

SEC("xdp")
int on_packet_too(struct xdp_md *packet)
{
	__sync_fetch_and_add(&second, 1);
	return XDP_PASS;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&egress, 1);
	return 1;
}

SEC("cgroup/sock_create")
int on_socket(struct bpf_sock *sock)
{
	__sync_fetch_and_add(&sockets, 1);
	return 1;
}

SEC("sk_lookup")
int on_lookup(struct bpf_sk_lookup *lookup)
{
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
