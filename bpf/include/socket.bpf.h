/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From file descriptors to TCP sockets. Include after sock.h, syscalls.h, bpf_core_read.h and task.bpf.h. */
#ifndef __PYEBPF_SOCKET_BPF_H
#define __PYEBPF_SOCKET_BPF_H

/* Of a file descriptor the current process was given: the TCP socket; NULL: it isn't one. */
static __always_inline struct sock *tcp_socket_of(struct file *file)
{
	struct socket *socket = file ? private_data_of(file) : NULL;
	struct sock *sk = socket ? BPF_CORE_READ(socket, sk) : NULL;
	__u16 family;

	if (!sk)
		return NULL;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return NULL;
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP ? sk : NULL;
}

/* What accept() or accept4() returned; NULL: an error, or not TCP. */
static __always_inline struct sock *accepted_socket(struct syscall_exit *ctx)
{
	if (ctx->ret < 0)
		return NULL;
	return tcp_socket_of(file_of((struct task_struct *)bpf_get_current_task(), ctx->ret));
}

#endif
