/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpdrop: TCP packets that the kernel gives up. */
#include "vmlinux.h"
#include "packet.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpdrop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owners.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct drop_event *unused_drop_event __attribute__((unused));
const enum drop_sizes *unused_drop_sizes __attribute__((unused));

/* Reasons up to this one aren't drops: packets that were used, and those whose reason nobody gave. */
const volatile __u32 last_reason_not_shown = 0;
/* Nor is this: what a queue held when it went, such as a FIN that came and that nobody read up to. */
const volatile __u32 reason_of_purge = 0;
const volatile bool show_all = false;

enum { NOT_SET = 0xffff, MOST_EXTENSIONS = 6 };

struct packet {
	struct flow flow;
	__u32 transport; /* offset from skb->head */
	__u8 flags;
};

/* The TCP header; false: there is none within what the packet has in one piece. */
static __always_inline bool tcp_of(struct sk_buff *skb, struct packet *packet)
{
	struct tcphdr tcp;

	if (packet->transport + 20 > BPF_CORE_READ(skb, tail))
		return false;
	if (bpf_probe_read_kernel(&tcp, sizeof(tcp), BPF_CORE_READ(skb, head) + packet->transport))
		return false;
	packet->flow.local_port = network_order(tcp.source);
	packet->flow.remote_port = network_order(tcp.dest);
	packet->flags = tcp.flags;
	return true;
}

static __always_inline bool ipv4_of(struct sk_buff *skb, struct packet *packet)
{
	__u32 at = BPF_CORE_READ(skb, network_header);
	struct iphdr ip;

	if (at + sizeof(ip) > BPF_CORE_READ(skb, tail) ||
	    bpf_probe_read_kernel(&ip, sizeof(ip), BPF_CORE_READ(skb, head) + at))
		return false;
	if (ip.version_ihl >> 4 != 4 || ip.protocol != IPPROTO_TCP || ip.frag_off & network_order(0x1fff))
		return false;
	packet->flow.family = AF_INET;
	__builtin_memcpy(packet->flow.local, &ip.saddr, 4);
	__builtin_memcpy(packet->flow.remote, &ip.daddr, 4);
	packet->transport = at + (ip.version_ihl & 15) * 4;
	return tcp_of(skb, packet);
}

static __always_inline bool ipv6_of(struct sk_buff *skb, struct packet *packet)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	__u32 at = BPF_CORE_READ(skb, network_header), tail = BPF_CORE_READ(skb, tail);
	struct ipv6hdr ip;
	__u8 next, extension[4];
	int i;

	if (at + sizeof(ip) > tail || bpf_probe_read_kernel(&ip, sizeof(ip), head + at))
		return false;
	if (ip.version_priority >> 4 != 6)
		return false;
	packet->flow.family = AF_INET6;
	__builtin_memcpy(packet->flow.local, ip.saddr, 16);
	__builtin_memcpy(packet->flow.remote, ip.daddr, 16);
	at += sizeof(ip);
	next = ip.nexthdr;
	for (i = 0; i < MOST_EXTENSIONS; i++) {
		if (next == IPPROTO_TCP) {
			packet->transport = at;
			return tcp_of(skb, packet);
		}
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			return false;
		if (at + 8 > tail || bpf_probe_read_kernel(extension, sizeof(extension), head + at))
			return false;
		if (next == IPPROTO_FRAGMENT && (extension[2] || extension[3] & 0xf8))
			return false; /* not the first part: it has no TCP header */
		at += next == IPPROTO_FRAGMENT ? 8 : (extension[1] + 1) * 8;
		next = extension[0];
	}
	return false;
}

/* Is it TCP's, and one that the fields we read exist of? */
static __always_inline bool is_tcp(struct sock *sk, __u8 state)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family != AF_INET && family != AF_INET6)
		return false;
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return true;
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && BPF_CORE_READ(sk, sk_type) == SOCK_STREAM;
}

/* On its way out a packet has no IP header before a route is found. Then the socket knows both ends. */
static __always_inline bool outgoing(struct sk_buff *skb, struct sock *sk, struct packet *packet)
{
	__u16 local, remote;

	packet->transport = BPF_CORE_READ(skb, transport_header);
	if (packet->transport == NOT_SET || !flow_of(sk, &packet->flow))
		return false;
	local = packet->flow.local_port;
	remote = packet->flow.remote_port;
	return tcp_of(skb, packet) && packet->flow.local_port == local && packet->flow.remote_port == remote;
}

static __always_inline __u32 netns_of(struct sk_buff *skb, struct sock *sk)
{
	struct net_device *device;
	unsigned long route;

	if (sk)
		return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	device = BPF_CORE_READ(skb, dev);
	if (!device) {
		route = BPF_CORE_READ(skb, _skb_refdst) & ~1UL;
		device = BPF_CORE_READ((struct dst_entry *)route, dev);
	}
	return device ? BPF_CORE_READ(device, nd_net.net, ns.inum) : 0;
}

SEC("raw_tp/kfree_skb")
int on_drop(unsigned long long *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	struct sock *sk = NULL, *listener;
	struct owner *owner = NULL;
	struct packet packet = {};
	struct drop_event *event;
	__u32 reason = 0;
	__u16 protocol;
	__u8 state = 0;
	__s64 size;

	/* What a kernel doesn't have the verifier doesn't look at: it knows the condition to be false. */
	if (bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->reason)) {
		reason = ctx[2];
		if (!show_all && (reason <= last_reason_not_shown || reason == reason_of_purge))
			return 0;
	}
	if (bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->rx_sk))
		bpf_probe_read_kernel(&sk, sizeof(sk), &ctx[3]);
	if (!sk)
		sk = BPF_CORE_READ(skb, sk);
	if (sk) {
		state = BPF_CORE_READ(sk, __sk_common.skc_state);
		if (!is_tcp(sk, state))
			sk = NULL, state = 0;
		/* The nearest to a purge that can be told without reasons. */
		if (!bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->reason) && state == TCP_CLOSE &&
		    !show_all)
			return 0;
	}

	protocol = network_order(BPF_CORE_READ(skb, protocol));
	if (!(protocol == ETH_P_IP && ipv4_of(skb, &packet)) && !(protocol == ETH_P_IPV6 && ipv6_of(skb, &packet)) &&
	    !(sk && sk == BPF_CORE_READ(skb, sk) && outgoing(skb, sk, &packet)))
		return 0;
	packet.flow.netns = netns_of(skb, sk);
	if (!flow_wanted(&packet.flow))
		return 0;
	if (sk) {
		owner = owner_of(sk);
		listener = state == TCP_NEW_SYN_RECV ? BPF_CORE_READ(sk, __sk_common.skc_listener) : NULL;
		if (!owner && listener)
			owner = owner_of(listener);
	}
	if (!owner_wanted(owner))
		return 0;

	event = reserve(sizeof(*event));
	if (!event)
		return 0;
	actor_of(&event->actor, owner);
	__builtin_memcpy(&event->flow, &packet.flow, sizeof(packet.flow));
	event->reason = reason;
	event->state = state;
	event->flags = packet.flags;
	event->reserved = 0;
	event->location = ctx[1];
	size = bpf_get_stack(ctx, event->stack, sizeof(event->stack), 0);
	event->stack_size = size;
	submit(event);
	return 0;
}
