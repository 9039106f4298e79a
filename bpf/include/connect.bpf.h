/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Attempts to connect, from connect(2) to the answer. Include after sock.h, syscalls.h, events.bpf.h, task.bpf.h and
 * flow.bpf.h.
 *
 * The answer to a SYN comes in an interrupt, in whatever process it hits: who asked is remembered by the socket. What
 * fails before a SYN is sent (no route, no free port, a firewall of the control group) has no answer: it is told by the
 * end of connect(2).
 */
#ifndef __PYEBPF_CONNECT_BPF_H
#define __PYEBPF_CONNECT_BPF_H

#include "connect.h"
#include "socket.bpf.h"

/* See the anchor in site.bpf.h. */
const struct connect_event *unused_connect_event __attribute__((unused));
const enum connect_error *unused_connect_error __attribute__((unused));

const volatile __u64 least_duration = 0; /* ns; attempts that took less are not shown */

/* By the address of the struct sock, while it waits for the answer; actor.time: when it began. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct actor);
} attempts SEC(".maps");

/* connect(2) in progress, of a socket that isn't connecting already. */
struct connect_call {
	__u64 sk;
	__u64 address; /* struct sockaddr, the process's memory */
	__u64 time;
	__u32 begun; /* a SYN was made */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct connect_call);
} connect_calls SEC(".maps");

/* The current thread's connect(2) of this socket; NULL: it is doing something else. */
static __always_inline struct connect_call *connect_call_of(__u64 sk)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct connect_call *call = bpf_map_lookup_elem(&connect_calls, &thread);

	return call && call->sk == sk ? call : NULL;
}

static __always_inline void connect_tell(const struct actor *who, const struct flow *flow, __u64 since, __u32 error)
{
	__u64 now = bpf_ktime_get_ns();
	struct connect_event *event;

	if (now - since < least_duration || !flow_wanted(flow))
		return;
	event = reserve(sizeof(*event));
	if (!event)
		return;
	event->actor = *who;
	event->actor.time = now;
	event->flow = *flow;
	event->error = error;
	event->duration = now - since;
	submit(event);
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	__u64 key = (__u64)sk;
	struct connect_call *call;
	struct actor *attempt, who;
	struct flow flow;
	__u64 pid_tgid;
	bool connected;
	__u32 error;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (new == TCP_SYN_SENT) {
		call = connect_call_of(key);
		if (call)
			call->begun = 1;
		pid_tgid = current_pid_tgid();
		if (!wanted_here(pid_tgid))
			return 0;
		actor_here(&who, pid_tgid);
		if (bpf_map_update_elem(&attempts, &key, &who, BPF_ANY))
			COUNT_EVENT(untracked);
		return 0;
	}
	if (old == TCP_LISTEN) { /* a new socket; what is remembered by its address is of one before */
		bpf_map_delete_elem(&attempts, &key);
		return 0;
	}
	/*
	 * Two that connect to each other, or one to itself, pass through SYN_RECV. The answer may come while this program
	 * is at work on the same CPU; the kernel skips it then, and a later change, or the end of connect(2), tells.
	 */
	if ((old != TCP_SYN_SENT && old != TCP_SYN_RECV && old != TCP_ESTABLISHED) || new == TCP_SYN_RECV)
		return 0;
	attempt = bpf_map_lookup_elem(&attempts, &key);
	if (!attempt)
		return 0;
	connected = new == TCP_ESTABLISHED || old == TCP_ESTABLISHED;
	error = connected ? 0 : BPF_CORE_READ(sk, sk_err);
	if (!connected && !error) {
		if (connect_call_of(key)) /* its end tells why */
			return 0;
		error = CONNECT_GIVEN_UP;
	}
	if (flow_of(sk, &flow))
		connect_tell(attempt, &flow, attempt->time, error);
	bpf_map_delete_elem(&attempts, &key);
	return 0;
}

SEC("tp/syscalls/sys_enter_connect")
int enter_connect(struct syscall_enter *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct connect_call call = { .address = ctx->args[1] };
	struct sock *sk;

	if (!wanted_here(current_pid_tgid()))
		return 0;
	sk = tcp_socket_of(file_of((struct task_struct *)bpf_get_current_task(), (__s32)ctx->args[0]));
	/* A socket that connects already is asked how it goes. */
	if (!sk || BPF_CORE_READ(sk, sk_socket, state) != SS_UNCONNECTED)
		return 0;
	call.sk = (__u64)sk;
	call.time = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&connect_calls, &thread, &call, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

static __always_inline bool still_connects(__s64 result)
{
	/* EINTR, EALREADY, EINPROGRESS; ERESTARTSYS to ERESTART_RESTARTBLOCK of linux/errno.h: a signal came */
	return result == -4 || result == -114 || result == -115 || (result <= -512 && result >= -516);
}

/* The flow of a socket that has no remote end (any more), from what was given to connect(2). */
static __always_inline bool flow_asked(struct sock *sk, const void *address, struct flow *flow)
{
	struct {
		__u16 family;
		__u16 port;
		__u32 ip; /* sockaddr_in; flowinfo in sockaddr_in6 */
		__u32 ip6[4];
	} asked = {};

	bpf_probe_read_user(&asked, 8, address);
	if (asked.family != AF_INET && asked.family != AF_INET6)
		return false;
	if (asked.family == AF_INET6)
		bpf_probe_read_user(&asked, sizeof(asked), address);
	if (!flow_of(sk, flow))
		return false;
	__builtin_memset(flow->remote, 0, sizeof(flow->remote));
	flow->remote_port = network_order(asked.port);
	if (asked.family == AF_INET) {
		__builtin_memcpy(flow->remote, &asked.ip, sizeof(asked.ip));
	} else if (!asked.ip6[0] && !asked.ip6[1] && asked.ip6[2] == __builtin_bswap32(0xffff)) {
		if (flow->family == AF_INET6) {
			__builtin_memcpy(flow->local, flow->local + 12, 4);
			__builtin_memset(flow->local + 4, 0, 12);
		}
		__builtin_memcpy(flow->remote, &asked.ip6[3], sizeof(asked.ip6[3]));
		flow->family = AF_INET;
	} else {
		__builtin_memcpy(flow->remote, asked.ip6, sizeof(asked.ip6));
	}
	return true;
}

SEC("tp/syscalls/sys_exit_connect")
int exit_connect(struct syscall_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct connect_call *found = bpf_map_lookup_elem(&connect_calls, &thread);
	struct connect_call call;
	struct actor *attempt, who;
	struct flow flow;

	if (!found)
		return 0;
	call = *found;
	bpf_map_delete_elem(&connect_calls, &thread);
	if (still_connects(ctx->ret) || (ctx->ret >= 0 && !call.begun))
		return 0;
	attempt = bpf_map_lookup_elem(&attempts, &call.sk);
	if (ctx->ret >= 0) { /* not told: see on_state */
		if (attempt && flow_of((struct sock *)call.sk, &flow))
			connect_tell(attempt, &flow, attempt->time, 0);
		bpf_map_delete_elem(&attempts, &call.sk);
		return 0;
	}
	if (call.begun && !attempt) /* told when the answer came */
		return 0;
	if (flow_asked((struct sock *)call.sk, (void *)call.address, &flow)) {
		actor_here(&who, current_pid_tgid());
		connect_tell(&who, &flow, call.time, -ctx->ret);
	}
	bpf_map_delete_elem(&attempts, &call.sk);
	return 0;
}

#endif
