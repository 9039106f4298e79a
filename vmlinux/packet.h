/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets and their headers. Only the fields that are read. */
#ifndef __PYEBPF_VMLINUX_PACKET_H
#define __PYEBPF_VMLINUX_PACKET_H

#include "sock.h"

/* include/uapi/linux/if_ether.h, in.h */
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_DSTOPTS 60

/* What is on the wire: no offset ever changes. */
struct iphdr {
	__u8 version_ihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__be32 saddr;
	__be32 daddr;
};

struct ipv6hdr {
	__u8 version_priority;
	__u8 flow_lbl[3];
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	__u8 saddr[16];
	__u8 daddr[16];
};

struct tcphdr {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack_seq;
	__u8 doff;
	__u8 flags;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net_device {
	possible_net_t nd_net;
};

struct dst_entry {
	struct net_device *dev;
};

struct sk_buff {
	struct net_device *dev; /* of TCP's own queues something else lies here */
	struct sock *sk;
	char cb[48];
	unsigned long _skb_refdst; /* a struct dst_entry *, or'ed with 1 */
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	unsigned int tail; /* sk_buff_data_t: an offset on 64 bits */
	unsigned char *head;
};

/* What skb->cb holds while TCP has the packet. */
struct tcp_skb_cb {
	__u32 seq;
	__u32 end_seq;
};

enum skb_drop_reason {
	SKB_NOT_DROPPED_YET = 0, /* the others' numbers are different in each kernel */
};

/* Records of classic tracepoints: that a field exists says that the tracepoint hands it to programs. */
struct trace_event_raw_kfree_skb {
	void *rx_sk;		     /* since 6.11, c53795d48ee8 ("net: add rx_sk to trace_kfree_skb") */
	enum skb_drop_reason reason; /* since 5.17, c504e5c2f964 ("net: skb: introduce kfree_skb_reason()") */
};

struct trace_event_raw_tcp_retransmit_skb {
	int err; /* in 6.18 */
};

#pragma clang attribute pop

#endif
