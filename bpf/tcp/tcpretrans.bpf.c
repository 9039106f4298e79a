/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpretrans: segments that are sent again, and tail loss probes. */
#include "vmlinux.h"
#include "packet.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpretrans.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owners.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct retransmit_event *unused_retransmit_event __attribute__((unused));

/* Count them by flow instead of telling each. */
const volatile bool count_only = false;
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct retransmit_key);
	__type(value, __u64);
} counts SEC(".maps");

/*
 * A tail loss probe that has nothing new to send sends the last segment again, through the same function as every
 * retransmission. Its caller, which the stack names, makes the difference: tcp_send_loss_probe(), from .. to. 0: don't
 * ask.
 */
const volatile __u64 probe_from = 0;
const volatile __u64 probe_to = 0;

enum { CALLERS = 16 };

static __always_inline bool in_loss_probe(void *ctx)
{
	__u64 stack[CALLERS] = {};
	int i;

	if (!probe_from || bpf_get_stack(ctx, stack, sizeof(stack), 0) < 0)
		return false;
	for (i = 0; i < CALLERS; i++) {
		if (stack[i] > probe_from && stack[i] <= probe_to)
			return true;
	}
	return false;
}

static __always_inline void count(const struct flow *flow, __u32 type)
{
	struct retransmit_key key = {};
	__u64 one = 1, *number;

	__builtin_memcpy(&key.flow, flow, sizeof(*flow));
	key.type = type;
	number = bpf_map_lookup_elem(&counts, &key);
	if (!number) {
		if (!bpf_map_update_elem(&counts, &key, &one, BPF_NOEXIST))
			return;
		number = bpf_map_lookup_elem(&counts, &key); /* another CPU was first */
	}
	if (number)
		__sync_fetch_and_add(number, 1);
	else
		COUNT_EVENT(untracked);
}

/* sk: whose addresses they are; owned: the socket that somebody holds. */
static __always_inline int tell(struct sock *sk, struct sock *owned, enum retransmit_type type, __u8 state, __u32 sequence,
				__s32 error)
{
	struct owner *owner = owner_of(owned);
	struct retransmit_event *event;
	struct flow flow;

	if (!owner_wanted(owner) || !flow_of(sk, &flow) || !flow_wanted(&flow))
		return 0;
	if (count_only) {
		count(&flow, type);
		return 0;
	}
	event = reserve(sizeof(*event));
	if (!event)
		return 0;
	actor_of(&event->actor, owner);
	__builtin_memcpy(&event->flow, &flow, sizeof(flow));
	event->sequence = sequence;
	event->error = error;
	event->type = type;
	event->state = state;
	event->reserved = 0;
	submit(event);
	return 0;
}

static __always_inline __u32 sequence_of(struct sk_buff *skb)
{
	return BPF_CORE_READ((struct tcp_skb_cb *)&skb->cb, seq);
}

SEC("raw_tp/tcp_retransmit_skb")
int on_retransmit(unsigned long long *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[1];
	struct sock *sk = (struct sock *)ctx[0];
	__s32 error = 0;

	/* Kernels without the argument tell only of those that were sent. */
	if (bpf_core_field_exists(((struct trace_event_raw_tcp_retransmit_skb *)0)->err))
		error = ctx[2];
	return tell(sk, sk, in_loss_probe(ctx) ? LOSS_PROBE : RETRANSMIT, BPF_CORE_READ(sk, __sk_common.skc_state),
		    sequence_of(skb), error);
}

SEC("raw_tp/tcp_retransmit_synack")
int on_synack(unsigned long long *ctx)
{
	struct sock *listener = (struct sock *)ctx[0], *request = (struct sock *)ctx[1];

	/* A request begins like a socket does. */
	return tell(request, listener, SYNACK, TCP_NEW_SYN_RECV,
		    BPF_CORE_READ((struct tcp_request_sock *)request, snt_isn), 0);
}

/* A probe is begun: does it send something new? Else on_retransmit tells of it. */
static __always_inline int loss_probe(struct sock *sk)
{
	struct sk_buff *next = BPF_CORE_READ(sk, sk_write_queue.next);
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	__u32 sequence, end, most, window;

	if (next == (void *)sk + bpf_core_field_offset(struct sock, sk_write_queue)) /* nothing is queued */
		return 0;
	if (BPF_CORE_READ(tcp, tlp_high_seq)) /* one is under way; there is only one at a time */
		return 0;
	sequence = sequence_of(next);
	end = BPF_CORE_READ((struct tcp_skb_cb *)&next->cb, end_seq);
	most = sequence + BPF_CORE_READ(tcp, mss_cache);
	if ((__s32)(end - most) > 0)
		end = most;
	window = BPF_CORE_READ(tcp, snd_una) + BPF_CORE_READ(tcp, snd_wnd);
	if ((__s32)(end - window) > 0) /* the peer's window has no room for it */
		return 0;
	return tell(sk, sk, LOSS_PROBE, BPF_CORE_READ(sk, __sk_common.skc_state), sequence, 0);
}

SEC("fentry/tcp_send_loss_probe")
int BPF_PROG(on_probe, struct sock *sk)
{
	return loss_probe(sk);
}

SEC("kprobe/tcp_send_loss_probe")
int BPF_KPROBE(on_probe_kprobe, struct sock *sk)
{
	return loss_probe(sk);
}
