// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts how often the kernel runs a program for what connections of one network namespace do. */
#include "vmlinux.h"
#include "sock.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile u32 netns = 0;
u64 fired;

static __always_inline int count(struct sock *sk)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == netns)
		__sync_fetch_and_add(&fired, 1);
	return 0;
}

SEC("raw_tp/tcp_retransmit_skb")
int on_retransmit(unsigned long long *ctx)
{
	return count((struct sock *)ctx[0]);
}

/* The listener's, whose SYN-ACK it sends again. */
SEC("raw_tp/tcp_retransmit_synack")
int on_retransmit_synack(unsigned long long *ctx)
{
	return count((struct sock *)ctx[0]);
}

/* A segment that an established connection receives. */
SEC("raw_tp/tcp_probe")
int on_received(unsigned long long *ctx)
{
	return count((struct sock *)ctx[0]);
}

/* A change of the state of congestion control; Linux 5.19. */
SEC("raw_tp/tcp_cong_state_set")
int on_congestion(unsigned long long *ctx)
{
	struct inet_connection_sock *sk = (struct inet_connection_sock *)ctx[0];

	return BPF_CORE_READ_BITFIELD_PROBED(sk, icsk_ca_state) == (u8)ctx[1] ? 0 : count((struct sock *)sk);
}
