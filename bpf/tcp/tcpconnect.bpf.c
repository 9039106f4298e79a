/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpconnect: active connections, those that came about and those that failed. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpconnect.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owner.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct connect_event *unused_connect_event __attribute__((unused));

/* The answer to a SYN comes in an interrupt: who asked is remembered with the socket. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	struct connect_event *event;
	struct owner *owner;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (old == TCP_CLOSE && new == TCP_SYN_SENT) {
		owner_here(sk);
		return 0;
	}
	if (old != TCP_SYN_SENT)
		return 0;
	owner = owner_of(sk);
	if (!owner || !owner->since || !owner_wanted(owner))
		return 0;
	event = reserve(sizeof(*event));
	if (!event)
		return 0;
	if (!flow_of(sk, &event->flow) || !flow_wanted(&event->flow)) {
		bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
		return 0;
	}
	event->actor.time = bpf_ktime_get_ns();
	event->actor.tgid = owner->tgid;
	event->actor.tid = owner->tid;
	event->actor.uid = owner->uid;
	event->actor.reserved = 0;
	__builtin_memcpy(event->actor.comm, owner->comm, sizeof(owner->comm));
	event->error = new == TCP_ESTABLISHED ? 0 : sk->sk_err;
	event->reserved = 0;
	event->duration = event->actor.time - owner->since;
	submit(event);
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(on_destroy, struct sock *sk)
{
	owner_forget(sk);
	return 0;
}
