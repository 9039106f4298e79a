/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpaccept: passive connections, when they are accepted. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "tcpaccept.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/accept.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct accept_event *unused_accept_event __attribute__((unused)); /* see the anchor in site.bpf.h */

static __always_inline int accepted(struct sock *sk)
{
	__u64 pid_tgid = current_pid_tgid();
	struct accept_event *event;
	struct flow flow;

	if (!wanted_here(pid_tgid) || !flow_of(sk, &flow) || !flow_wanted(&flow))
		return 0;
	event = reserve(sizeof(*event));
	if (!event)
		return 0;
	actor_here(&event->actor, pid_tgid);
	event->flow = flow;
	event->reserved = 0;
	submit(event);
	return 0;
}
