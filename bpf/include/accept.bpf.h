/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections that are accepted, in the context of who accepts them: not when they come about, which happens in an
 * interrupt and often in the client's process. Include after sock.h, syscalls.h, bpf_core_read.h and task.bpf.h.
 *
 * The tool has `static int accepted(struct sock *sk)`. It attaches on_accept where it can, which sees also what doesn't
 * come by a system call of its own (io_uring, the kernel's servers), else exit_accept and exit_accept4. Not a
 * kretprobe: few are handed out (10 or two a CPU), and each thread that waits in accept() would hold one.
 */
#ifndef __PYEBPF_ACCEPT_BPF_H
#define __PYEBPF_ACCEPT_BPF_H

#include "socket.bpf.h"

static int accepted(struct sock *sk);

/* (sk, flags, err, kern) before Linux 6.10, (sk, arg) since; the result follows: the new socket, or NULL. */
SEC("fexit/inet_csk_accept")
int on_accept(__u64 *ctx)
{
	struct sock *sk;

	/* In assembly, as clang makes one load of both, from a changed context pointer, which the verifier refuses. */
	if (bpf_core_type_exists(struct proto_accept_arg))
		asm volatile("%0 = *(u64 *)(%1 + 16)" : "=r"(sk) : "r"(ctx));
	else
		asm volatile("%0 = *(u64 *)(%1 + 32)" : "=r"(sk) : "r"(ctx));
	return sk ? accepted(sk) : 0;
}

static __always_inline int accept_ends(struct syscall_exit *ctx)
{
	struct sock *sk = accepted_socket(ctx);

	return sk ? accepted(sk) : 0;
}

SEC("tp/syscalls/sys_exit_accept")
int exit_accept(struct syscall_exit *ctx)
{
	return accept_ends(ctx);
}

SEC("tp/syscalls/sys_exit_accept4")
int exit_accept4(struct syscall_exit *ctx)
{
	return accept_ends(ctx);
}

#endif
