/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The programs that keep the table of owner.bpf.h, for tools whose own events don't. Include after syscalls.h. */
#ifndef __PYEBPF_OWNERS_BPF_H
#define __PYEBPF_OWNERS_BPF_H

#include "accept.bpf.h"
#include "owner.bpf.h"

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(owner_begins, struct sock *sk, int old, int new)
{
	/* connect(2) and listen(2): the current process calls them. */
	if (old == TCP_CLOSE && (new == TCP_SYN_SENT || new == TCP_LISTEN) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		owner_here(sk);
	return 0;
}

static int accepted(struct sock *sk)
{
	owner_here_as(sk, OWNER_ACCEPTED);
	return 0;
}

SEC("raw_tp/tcp_destroy_sock")
int BPF_PROG(owner_ends, struct sock *sk)
{
	owner_forget(sk);
	return 0;
}

/* The beginning of a record of something that concerns a socket; 0 and "" where its owner isn't known. */
static __always_inline void actor_of(struct actor *actor, const struct owner *owner)
{
	__builtin_memset(actor, 0, sizeof(*actor));
	actor->time = bpf_ktime_get_ns();
	if (!owner)
		return;
	actor->tgid = owner->tgid;
	actor->tid = owner->tid;
	actor->uid = owner->uid;
	__builtin_memcpy(actor->comm, owner->comm, sizeof(owner->comm));
}

#endif
