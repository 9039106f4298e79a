/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bindsnoop: sockets that are bound to addresses. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "bindsnoop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/calls.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct bind_event *unused_bind_event __attribute__((unused));
const enum bind_option *unused_bind_option __attribute__((unused));
const enum bind_known *unused_bind_known __attribute__((unused));

const volatile bool failed_too = false;

/* Bits of inet_sock.inet_flags (include/net/inet_sock.h, an enumeration without a name). */
#define INET_FLAGS_FREEBIND 11
#define INET_FLAGS_TRANSPARENT 15
#define INET_FLAGS_BIND_ADDRESS_NO_PORT 18

#define SOCK_RAW 3

/* struct sockaddr_in and sockaddr_in6, as far as bind(2) must be given them (include/uapi/linux/in.h, in6.h). */
union wanted_address {
	__u16 family;
	struct {
		__u16 family;
		__be16 port;
		__u8 address[4];
	} v4;
	struct {
		__u16 family;
		__be16 port;
		__be32 flow_label;
		__u8 address[16];
	} v6;
};

static __always_inline __u32 options_of(struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)sk;
	__u32 options = 0;

	if (bpf_core_field_exists(inet->inet_flags)) {
		unsigned long flags = BPF_CORE_READ(inet, inet_flags);

		options |= flags >> INET_FLAGS_FREEBIND & 1 ? BIND_FREEBIND : 0;
		options |= flags >> INET_FLAGS_TRANSPARENT & 1 ? BIND_TRANSPARENT : 0;
		options |= flags >> INET_FLAGS_BIND_ADDRESS_NO_PORT & 1 ? BIND_ADDRESS_NO_PORT : 0;
	} else {
		struct inet_sock___before_6_6 *old = (void *)sk;

		options |= BPF_CORE_READ_BITFIELD_PROBED(old, freebind) ? BIND_FREEBIND : 0;
		options |= BPF_CORE_READ_BITFIELD_PROBED(old, transparent) ? BIND_TRANSPARENT : 0;
		options |= BPF_CORE_READ_BITFIELD_PROBED(old, bind_address_no_port) ? BIND_ADDRESS_NO_PORT : 0;
	}
	options |= BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_reuse) ? BIND_REUSEADDR : 0;
	options |= BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_reuseport) ? BIND_REUSEPORT : 0;
	return options;
}

/* What the process asked for. False: not an address of IPv4 or IPv6. */
static __always_inline bool asked_for(struct flow *flow, __u64 pointer, __u64 size)
{
	union wanted_address address = {};

	if (bpf_probe_read_user(&address, sizeof(address.v4), (void *)pointer))
		return false;
	if (address.family == AF_INET6 && bpf_probe_read_user(&address.v6, sizeof(address.v6), (void *)pointer))
		return false;
	__builtin_memset(flow->local, 0, sizeof(flow->local));
	if (address.family == AF_INET && size >= sizeof(address.v4))
		__builtin_memcpy(flow->local, address.v4.address, sizeof(address.v4.address));
	else if (address.family == AF_INET6 && size >= sizeof(address.v6))
		__builtin_memcpy(flow->local, address.v6.address, sizeof(address.v6.address));
	else
		return false;
	flow->family = address.family;
	flow->local_port = network_order(address.v4.port);
	return true;
}

static __always_inline void call_ends(struct syscall_exit *ctx, struct begun_call *begun, const __u32 call)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file *file = file_of(task, (__s32)begun->args[0]);
	struct socket *socket = file ? private_data_of(file) : NULL;
	struct sock *sk = socket ? BPF_CORE_READ(socket, sk) : NULL;
	struct flow flow = {};
	struct bind_event *event;
	__u32 known = KNOWN_PORT;
	__u16 family = 0;

	if (sk) {
		family = BPF_CORE_READ(sk, __sk_common.skc_family);
		if (family != AF_INET && family != AF_INET6)
			return;
	}
	if (ctx->ret && !failed_too)
		return;
	if (sk) {
		known |= KNOWN_SOCKET;
		if (BPF_CORE_READ(sk, sk_type) == SOCK_RAW)
			known &= ~KNOWN_PORT;
		flow_of(sk, &flow);
	}
	if (!ctx->ret)
		known |= KNOWN_ADDRESS;
	else if (asked_for(&flow, begun->args[1], begun->args[2]))
		known |= KNOWN_ADDRESS;
	else if (!sk) /* neither a socket of ours nor an address */
		return;
	if (!(known & KNOWN_PORT))
		flow.local_port = 0;
	if (!flow_wanted(&flow)) /* before there is a record: what nobody wants must not be counted as dropped */
		return;
	event = reserve(sizeof(*event));
	if (!event)
		return;
	__builtin_memset(event, 0, sizeof(*event));
	event->flow = flow;
	event->known = known;
	if (sk) {
		event->options = options_of(sk);
		event->device = BPF_CORE_READ(sk, __sk_common.skc_bound_dev_if);
		event->protocol = BPF_CORE_READ(sk, sk_protocol);
	}
	actor_here(&event->actor, current_pid_tgid());
	event->result = ctx->ret;
	submit(event);
}

WATCH_CALL(bind, 3, 0)
