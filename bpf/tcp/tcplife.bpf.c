/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcplife: connections that have ended, how long they lived and what they carried. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcplife.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owners.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct life_event *unused_life_event __attribute__((unused));

/* A connection whose beginning was seen. */
struct life {
	__u64 begun;
	__u32 active; /* we sent the first SYN */
	__u32 reserved;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct life);
} lives SEC(".maps");

__u32 forgotten = 0;

static __always_inline void begin(struct sock *sk, bool active)
{
	struct life life = {.begun = bpf_ktime_get_ns(), .active = active};
	__u64 key = (__u64)sk;

	if (bpf_map_update_elem(&lives, &key, &life, BPF_ANY)) {
		COUNT_EVENT(untracked);
		forgotten = 1;
	}
}

/*
 * What the peer has acknowledged, without our SYN and FIN: tcp_snd_una_update() counts sequence numbers, and they take
 * one each. Only who connects has a SYN there, as the socket of who accepts begins behind its own.
 */
static __always_inline __u64 acknowledged(struct tcp_sock *tcp, const struct life *life, int state)
{
	__u64 acked = BPF_CORE_READ(tcp, bytes_acked);
	__u32 una = BPF_CORE_READ(tcp, snd_una), next = BPF_CORE_READ(tcp, snd_nxt), end = BPF_CORE_READ(tcp, write_seq);
	bool fin = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK;
	__u64 syn;

	if (life) {
		syn = life->active;
	} else {
		/* Every sequence number that left was data, the FIN, or else the SYN. */
		syn = acked + (next - una) - (fin && next == end);
		syn = syn - (BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans)) == 1;
	}
	syn += fin && una == end;
	return acked > syn ? acked - syn : 0;
}

/* tcp_rcv_nxt_update() counts the peer's FIN, but not its SYN. */
static __always_inline __u64 taken(struct sock *sk, struct tcp_sock *tcp)
{
	__u64 received = BPF_CORE_READ(tcp, bytes_received);

	return received && BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE & 1 ? received - 1 : received;
}

static __always_inline void show(struct sock *sk, const struct life *life, int state)
{
	struct owner *owner = owner_of(sk);
	struct life_event *event;
	struct flow flow;

	if (!owner_wanted(owner) || !flow_of(sk, &flow) || !flow_wanted(&flow))
		return;
	event = reserve(sizeof(*event));
	if (!event)
		return;
	actor_of(&event->actor, owner);
	event->flow = flow;
	event->forgotten = forgotten;
	event->begun = life ? life->begun : 0;
	event->sent = acknowledged((struct tcp_sock *)sk, life, state);
	event->received = taken(sk, (struct tcp_sock *)sk);
	submit(event);
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	__u64 key = (__u64)sk;
	struct life *life;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || old == new)
		return 0;
	switch (new) {
	case TCP_SYN_SENT:
		owner_here_as(sk, OWNER_CONNECTS);
		begin(sk, true);
		break;
	case TCP_SYN_RECV:
		if (old == TCP_LISTEN) /* else both ends connect */
			begin(sk, false);
		break;
	case TCP_ESTABLISHED:
		life = bpf_map_lookup_elem(&lives, &key);
		if (life)
			life->begun = bpf_ktime_get_ns();
		else /* it was being established when tracing began */
			begin(sk, old == TCP_SYN_SENT);
		break;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK: /* in the process that closes: it is the owner if no other is known */
		if (!owner_of(sk))
			owner_here(sk);
		break;
	case TCP_CLOSE:
		if (old != TCP_LISTEN)
			show(sk, bpf_map_lookup_elem(&lives, &key), old);
		bpf_map_delete_elem(&lives, &key);
		break;
	}
	return 0;
}
