/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpconnect: active connections, those that came about and those that failed; what names their addresses have. */
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
#include "include/connect.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct dns_event *unused_dns_event __attribute__((unused));
const enum dns_room *unused_dns_room __attribute__((unused));

#define DNS_PORT 53

/* A system call that receives from a socket of UDP. */
struct receiving {
	__u64 buffer; /* or a struct user_msghdr */
	__u64 from;   /* where the kernel puts the sender's struct sockaddr; 0: nowhere */
	__u32 size;   /* of the buffer */
	__u8 connected; /* to a name server */
	__u8 message;   /* buffer is a struct user_msghdr */
	__u16 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct receiving);
} receiving SEC(".maps");

static __always_inline int receive_begins(__s32 fd, struct receiving *begun)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct file *file = file_of((struct task_struct *)bpf_get_current_task(), fd);
	struct socket *socket = file ? private_data_of(file) : NULL;
	struct sock *sk = socket ? BPF_CORE_READ(socket, sk) : NULL;
	__u16 family, port;

	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP)
		return 0;
	port = network_order(BPF_CORE_READ(sk, __sk_common.skc_dport));
	begun->connected = port == DNS_PORT;
	if (port ? port != DNS_PORT : !begun->from && !begun->message)
		return 0;
	if (bpf_map_update_elem(&receiving, &thread, begun, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

static __always_inline void answer_received(const void *buffer, __u64 size, __u64 room)
{
	struct dns_event *event = reserve(sizeof(*event) + room);

	if (!event)
		return;
	asm volatile("" : "+r"(size)); /* the verifier needs to see the bound, though the compiler knows it already */
	if (size > room)
		size = room;
	event->size = size;
	event->reserved = 0;
	if (bpf_probe_read_user(event + 1, size, buffer)) {
		bpf_ringbuf_discard(event, 0);
		return;
	}
	submit(event);
}

static __always_inline int receive_ends(__s64 result)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct receiving *found = bpf_map_lookup_elem(&receiving, &thread);
	struct receiving begun;
	__u64 message[3] = {}; /* struct user_msghdr: msg_name, msg_namelen, msg_iov */
	__u64 part[2] = {};    /* struct iovec: the first */
	__u16 sender[2] = {};  /* family and port of sockaddr_in and sockaddr_in6 */
	__u64 size;

	if (!found)
		return 0;
	begun = *found;
	bpf_map_delete_elem(&receiving, &thread);
	if (result < 12) /* the header of an answer */
		return 0;
	if (begun.message) {
		if (bpf_probe_read_user(message, sizeof(message), (void *)begun.buffer) ||
		    bpf_probe_read_user(part, sizeof(part), (void *)message[2]))
			return 0;
		begun.from = message[0];
		begun.buffer = part[0];
		begun.size = part[1] > DNS_LONG ? DNS_LONG : part[1];
	}
	if (!begun.connected && (bpf_probe_read_user(sender, sizeof(sender), (void *)begun.from) ||
				 network_order(sender[1]) != DNS_PORT))
		return 0;
	size = result < begun.size ? result : begun.size;
	if (size <= DNS_SHORT)
		answer_received((void *)begun.buffer, size, DNS_SHORT);
	else
		answer_received((void *)begun.buffer, size, DNS_LONG);
	return 0;
}

SEC("tp/syscalls/sys_enter_recvfrom")
int enter_recvfrom(struct syscall_enter *ctx)
{
	struct receiving begun = { .buffer = ctx->args[1], .size = ctx->args[2], .from = ctx->args[4] };

	return receive_begins(ctx->args[0], &begun);
}

SEC("tp/syscalls/sys_enter_recvmsg")
int enter_recvmsg(struct syscall_enter *ctx)
{
	struct receiving begun = { .buffer = ctx->args[1], .message = 1 };

	return receive_begins(ctx->args[0], &begun);
}

SEC("tp/syscalls/sys_enter_read") /* Go's resolver */
int enter_read(struct syscall_enter *ctx)
{
	struct receiving begun = { .buffer = ctx->args[1], .size = ctx->args[2] };

	return receive_begins(ctx->args[0], &begun);
}

SEC("tp/syscalls/sys_exit_recvfrom")
int exit_recvfrom(struct syscall_exit *ctx)
{
	return receive_ends(ctx->ret);
}

SEC("tp/syscalls/sys_exit_recvmsg")
int exit_recvmsg(struct syscall_exit *ctx)
{
	return receive_ends(ctx->ret);
}

SEC("tp/syscalls/sys_exit_read")
int exit_read(struct syscall_exit *ctx)
{
	return receive_ends(ctx->ret);
}
