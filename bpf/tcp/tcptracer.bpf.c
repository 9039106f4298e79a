/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcptracer: connections that are made, accepted and closed. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcptracer.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owner.bpf.h"
#include "include/accept.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct tracer_event *unused_tracer_event __attribute__((unused));
const enum tracer_what *unused_tracer_what __attribute__((unused));

static __always_inline struct tracer_event *begin(struct sock *sk, enum tracer_what what)
{
	struct tracer_event *event;
	struct flow flow;

	if (!flow_of(sk, &flow) || !flow_wanted(&flow))
		return NULL;
	event = reserve(sizeof(*event));
	if (!event)
		return NULL;
	event->flow = flow;
	event->what = what;
	event->error = 0;
	return event;
}

static __always_inline int tell_here(struct sock *sk, enum tracer_what what)
{
	__u64 pid_tgid = current_pid_tgid();
	struct tracer_event *event = wanted_here(pid_tgid) ? begin(sk, what) : NULL;

	if (event) {
		actor_here(&event->actor, pid_tgid);
		submit(event);
	}
	return 0;
}

static __always_inline int tell_owner(struct sock *sk, const struct owner *owner, enum tracer_what what, __u16 error)
{
	struct tracer_event *event = owner_wanted(owner) ? begin(sk, what) : NULL;

	if (!event)
		return 0;
	__builtin_memset(&event->actor, 0, sizeof(event->actor));
	if (owner) {
		event->actor.tgid = owner->tgid;
		event->actor.tid = owner->tid;
		event->actor.uid = owner->uid;
		__builtin_memcpy(event->actor.comm, owner->comm, sizeof(owner->comm));
	}
	event->actor.time = bpf_ktime_get_ns();
	event->error = error;
	submit(event);
	return 0;
}

static __always_inline int accepted(struct sock *sk)
{
	owner_here_as(sk, OWNER_ACCEPTED);
	return tell_here(sk, TRACER_ACCEPTED);
}

/* This end says that it will send no more, or is at its end. */
static __always_inline bool is_end(int old, int new)
{
	switch (old) {
	case TCP_SYN_RECV: /* accepted before the handshake was over: TCP Fast Open */
	case TCP_ESTABLISHED:
		return new == TCP_FIN_WAIT1 || new == TCP_CLOSE;
	case TCP_CLOSE_WAIT:
		return new == TCP_LAST_ACK || new == TCP_CLOSE;
	}
	return false;
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	struct owner *owner;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (new == TCP_SYN_SENT) {
		owner_here_as(sk, OWNER_CONNECTS);
		return 0;
	}
	if (new == TCP_ESTABLISHED) {
		/* The answer may come in an interrupt. Those who connect to each other pass through SYN_RECV. */
		owner = old == TCP_SYN_SENT || old == TCP_SYN_RECV ? owner_of(sk) : NULL;
		return owner && owner->role == OWNER_CONNECTS ? tell_owner(sk, owner, TRACER_CONNECTED, 0) : 0;
	}
	/* What nobody has accepted yet has no struct socket. */
	if (!is_end(old, new) || !BPF_CORE_READ(sk, sk_socket))
		return 0;
	if (new == TCP_CLOSE && !(BPF_CORE_READ(sk, sk_shutdown) & 2) && BPF_CORE_READ(sk, sk_err)) /* the peer's reset, or nothing came for too long */
		return tell_owner(sk, owner_of(sk), TRACER_ENDED, BPF_CORE_READ(sk, sk_err));
	return tell_here(sk, TRACER_CLOSED);
}

SEC("raw_tp/tcp_destroy_sock")
int BPF_PROG(on_destroy, struct sock *sk)
{
	owner_forget(sk);
	return 0;
}
