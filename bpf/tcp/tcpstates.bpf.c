/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpstates: connections changing their state. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpstates.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owners.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct state_event *unused_state_event __attribute__((unused));

/* When each socket came into the state it is in. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} changes SEC(".maps");

__u32 forgotten = 0;

static __always_inline void show(struct sock *sk, int old, int new, __u64 now, __u64 since)
{
	struct owner *owner = owner_of(sk);
	struct state_event *event;
	struct flow flow;

	if (!owner_wanted(owner) || !flow_of(sk, &flow) || !flow_wanted(&flow))
		return;
	event = reserve(sizeof(*event));
	if (!event)
		return;
	actor_of(&event->actor, owner);
	event->actor.time = now; /* the next state's duration is counted from here */
	event->flow = flow;
	event->current_tgid = current_pid_tgid() >> 32;
	bpf_get_current_comm(event->current_comm, sizeof(event->current_comm));
	event->sk = (__u64)sk;
	event->since = since;
	event->old = old;
	event->new = new;
	event->forgotten = forgotten;
	event->reserved = 0;
	submit(event);
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	__u64 key = (__u64)sk, now = bpf_ktime_get_ns();
	__u64 *since;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || old == new)
		return 0;
	if (old == TCP_CLOSE)
		owner_here(sk); /* connect() and listen() */
	else if ((new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK) && !owner_of(sk))
		owner_here(sk); /* in the process that closes: it is the owner if no other is known */
	since = bpf_map_lookup_elem(&changes, &key);
	if (old == TCP_LISTEN && new == TCP_SYN_RECV) /* a new socket, the listener's copy of this moment */
		show(sk, old, new, now, now);
	else
		show(sk, old, new, now, since ? *since : 0);
	if (bpf_map_update_elem(&changes, &key, &now, BPF_ANY)) {
		COUNT_EVENT(untracked);
		forgotten = 1;
	}
	return 0;
}

SEC("raw_tp/tcp_destroy_sock")
int BPF_PROG(on_destroy, struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&changes, &key);
	return 0;
}
