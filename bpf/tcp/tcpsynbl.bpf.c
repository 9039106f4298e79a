/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpsynbl: how many connections wait to be accepted when another one comes, and how many are turned away. */
#include "vmlinux.h"
#include "packet.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpsynbl.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owners.bpf.h"
#include "include/buckets.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool filter_owner = false;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32); /* the limit */
	__type(value, struct backlog);
} backlogs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* address of the struct sock */
	__type(value, struct listener);
} listeners SEC(".maps");

static const struct backlog nothing_yet = {};

/* Ports that those listen on who are asked for: where a connection's listener isn't known. */
struct port_key {
	__u32 netns;
	__u16 port;
	__u16 reserved;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct port_key);
	__type(value, __u8);
} wanted_ports SEC(".maps");

static __always_inline int count(__u32 waiting, __u32 most)
{
	struct backlog *found = bpf_map_lookup_elem(&backlogs, &most);

	if (!found) {
		bpf_map_update_elem(&backlogs, &most, &nothing_yet, BPF_NOEXIST);
		found = bpf_map_lookup_elem(&backlogs, &most);
		if (!found) {
			COUNT_EVENT(untracked);
			return 0;
		}
	}
	count_into(found->buckets, waiting);
	__sync_fetch_and_add(&found->total, waiting);
	return 0;
}

/* The last ACK of a handshake has come: there will be a connection, if the queue has room for it. */
static __always_inline int completed(struct sock *listener, struct request_sock *request)
{
	struct flow flow;

	if (filter_owner && !owner_wanted(owner_of(listener)))
		return 0;
	if (!flow_of((struct sock *)request, &flow) || !flow_wanted(&flow)) /* a request begins like a socket does */
		return 0;
	return count(BPF_CORE_READ(listener, sk_ack_backlog), BPF_CORE_READ(listener, sk_max_ack_backlog));
}

/* A listener of IPv6 takes IPv4 too. Its function calls that of IPv4 then. */
static __always_inline int completed4(struct sock *listener, struct request_sock *request)
{
	return BPF_CORE_READ(listener, __sk_common.skc_family) == AF_INET ? completed(listener, request) : 0;
}

SEC("fentry/tcp_v4_syn_recv_sock")
int BPF_PROG(on_ack4, struct sock *sk, struct sk_buff *skb, struct request_sock *req)
{
	return completed4(sk, req);
}

SEC("fentry/tcp_v6_syn_recv_sock")
int BPF_PROG(on_ack6, struct sock *sk, struct sk_buff *skb, struct request_sock *req)
{
	return completed(sk, req);
}

SEC("kprobe/tcp_v4_syn_recv_sock")
int BPF_KPROBE(on_ack4_kprobe, struct sock *sk, struct sk_buff *skb, struct request_sock *req)
{
	return completed4(sk, req);
}

SEC("kprobe/tcp_v6_syn_recv_sock")
int BPF_KPROBE(on_ack6_kprobe, struct sock *sk, struct sk_buff *skb, struct request_sock *req)
{
	return completed(sk, req);
}

/*
 * Where functions can't be traced: the connection's socket is a copy of the listener's, and nobody changes what it says
 * of the queue. What the queue had no room for never comes here.
 */
SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_established, struct sock *sk, int old, int new)
{
	struct port_key key = {};
	struct flow flow;

	/* Two that connect to each other come here too; their sockets are somebody's already. */
	if (old != TCP_SYN_RECV || new != TCP_ESTABLISHED || BPF_CORE_READ(sk, sk_socket) || !flow_of(sk, &flow) ||
	    !flow_wanted(&flow))
		return 0;
	key.netns = flow.netns;
	key.port = flow.local_port;
	if (filter_owner && !bpf_map_lookup_elem(&wanted_ports, &key))
		return 0;
	return count(BPF_CORE_READ(sk, sk_ack_backlog), BPF_CORE_READ(sk, sk_max_ack_backlog));
}

/* Enters a listener, or looks at it again. begins: just now. */
static __always_inline void look(struct sock *sk, bool begins)
{
	__u64 key = (__u64)sk;
	struct port_key port = {};
	struct listener new = {}, *found;
	__u8 yes = 1;

	if (filter_owner && !owner_wanted(owner_of(sk)))
		return;
	if (!flow_of(sk, &new.flow))
		return;
	port.netns = new.flow.netns;
	port.port = new.flow.local_port;
	if (filter_owner && bpf_map_update_elem(&wanted_ports, &port, &yes, BPF_ANY))
		COUNT_EVENT(untracked);
	if (!flow_wanted(&new.flow))
		return;
	new.most = BPF_CORE_READ(sk, sk_max_ack_backlog);
	new.last = BPF_CORE_READ(sk, sk_drops.counter);
	found = bpf_map_lookup_elem(&listeners, &key);
	if (found && !begins) {
		found->most = new.most;
		found->last = new.last;
		return;
	}
	new.before = new.last;
	if (found)
		new.earlier = found->earlier + (found->last - found->before);
	if (bpf_map_update_elem(&listeners, &key, &new, BPF_ANY))
		COUNT_EVENT(untracked);
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_listen, struct sock *sk, int old, int new)
{
	__u64 key = (__u64)sk;
	struct listener *found;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (new == TCP_LISTEN)
		look(sk, true);
	found = old == TCP_LISTEN && new == TCP_CLOSE ? bpf_map_lookup_elem(&listeners, &key) : NULL;
	if (!found)
		return 0;
	found->last = BPF_CORE_READ(sk, sk_drops.counter);
	if (found->last == found->before && !found->earlier)
		bpf_map_delete_elem(&listeners, &key);
	return 0;
}

/* Run at the beginning, and before each report. */
SEC("raw_tp/bpf_iter_task_file")
int prime_listeners(struct bpf_iter__task_file *ctx)
{
	struct sock *sk;

	if (!ctx->task || !ctx->file)
		return 0;
	sk = tcp_socket_of(ctx->file);
	if (sk && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
		look(sk, false);
	return 0;
}
