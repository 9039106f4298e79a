/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcptop: what each process sends and receives on each connection. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcptop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/socket.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct uses {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct use);
	__type(value, struct traffic);
};
struct uses uses_even SEC(".maps");
struct uses uses_odd SEC(".maps");

/*
 * The table in use. User space replaces it by the empty one; the kernel then waits until no program uses the old one any
 * more (Linux 4.20, 1ae80cf31938 "bpf: wait for running BPF programs when updating map-in-map"), so what is read from
 * it is all of the interval, and nothing is lost between reading and clearing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct uses);
} current SEC(".maps") = {.values = {&uses_even}};

/* Up to which sequence number a socket's data has been taken. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u32);
} positions SEC(".maps");

static __always_inline void add(struct sock *sk, __u64 sent, __u64 received)
{
	__u64 pid_tgid = current_pid_tgid();
	struct traffic *traffic;
	struct use use;
	__u32 zero = 0;
	void *table;

	if (!wanted_here(pid_tgid) || !flow_of(sk, &use.flow) || !flow_wanted(&use.flow))
		return;
	use.tgid = pid_tgid >> 32;
	table = bpf_map_lookup_elem(&current, &zero);
	if (!table)
		return;
	traffic = bpf_map_lookup_elem(table, &use);
	if (!traffic) {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();
		struct traffic none = {};

		BPF_CORE_READ_STR_INTO(&none.comm, task, group_leader, comm);
		bpf_map_update_elem(table, &use, &none, BPF_NOEXIST);
		traffic = bpf_map_lookup_elem(table, &use);
		if (!traffic) {
			COUNT_EVENT(untracked);
			return;
		}
	}
	if (sent)
		__sync_fetch_and_add(&traffic->sent, sent);
	if (received)
		__sync_fetch_and_add(&traffic->received, received);
}

static __always_inline void sent(struct sock *sk, __u32 bytes)
{
	add(sk, bytes, 0);
}
#include "include/sent.bpf.h"

/* The peer's FIN takes a sequence number, but is no data. */
static __always_inline __u32 position(struct sock *sk)
{
	__u32 copied = BPF_CORE_READ((struct tcp_sock *)sk, copied_seq);
	__u32 next = BPF_CORE_READ((struct tcp_sock *)sk, rcv_nxt);

	return copied == next && BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE & 1 ? copied - 1 : copied;
}

static __always_inline void remember(struct sock *sk, __u64 flags)
{
	__u64 key = (__u64)sk;
	__u32 here = position(sk);

	if ((int)bpf_map_update_elem(&positions, &key, &here, flags) == -7) /* -E2BIG: full */
		COUNT_EVENT(untracked);
}

/*
 * Each time that data has been taken, by whatever means: recv(2), splice(2), zero-copy, by the kernel itself. How much
 * is the difference in position, so what is only looked at (MSG_PEEK) doesn't count. The socket is locked.
 */
SEC("raw_tp/tcp_rcv_space_adjust")
int BPF_PROG(on_received, struct sock *sk)
{
	__u64 key = (__u64)sk;
	__u32 *before = bpf_map_lookup_elem(&positions, &key);
	__u32 here, taken;

	if (!before) { /* it was open when tracing began, and the iterator hasn't come to it */
		remember(sk, BPF_NOEXIST);
		return 0;
	}
	here = position(sk);
	taken = here - *before;
	*before = here;
	if (taken)
		add(sk, 0, taken);
	return 0;
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	if (new == TCP_ESTABLISHED && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		remember(sk, BPF_ANY);
	return 0;
}

SEC("raw_tp/tcp_destroy_sock")
int BPF_PROG(on_destroy, struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&positions, &key);
	return 0;
}

/* Run once, after the others are attached. */
SEC("raw_tp/bpf_iter_task_file")
int prime_positions(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = ctx->task && ctx->file ? tcp_socket_of(ctx->file) : NULL;

	if (sk && BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN)
		remember(sk, BPF_NOEXIST);
	return 0;
}
