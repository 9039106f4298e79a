// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts how often the kernel runs a program for a segment that is sent again, in one network namespace. */
#include "vmlinux.h"
#include "sock.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile u32 netns = 0;
u64 fired;

SEC("raw_tp/tcp_retransmit_skb")
int on_retransmit(unsigned long long *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];

	if (BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == netns)
		__sync_fetch_and_add(&fired, 1);
	return 0;
}
