/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What processes hand to TCP, by every kernel's best hook (pyebpf/tools/tcp/sent.py chooses). The includer defines
 * sent(), called in the process that sends, with the bytes that TCP took, before it includes this.
 */
#ifndef __PYEBPF_SENT_BPF_H
#define __PYEBPF_SENT_BPF_H

/* Linux 6.3, 6e6eda44b939 ("sock: add tracepoint for send recv length"); 6.5 sends files and pipes that way too. */
SEC("raw_tp/sock_send_length")
int BPF_PROG(on_send_length, struct sock *sk, int ret, int flags)
{
	if (ret > 0 && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		sent(sk, ret);
	return 0;
}

SEC("fexit/tcp_sendmsg")
int BPF_PROG(after_sendmsg, struct sock *sk, void *message, __u64 size, int ret)
{
	if (ret > 0)
		sent(sk, ret);
	return 0;
}

/* Until Linux 6.4: sendfile(2) and splice(2). */
SEC("fexit/tcp_sendpage")
int BPF_PROG(after_sendpage, struct sock *sk, void *page, int offset, __u64 size, int flags, int ret)
{
	if (ret > 0)
		sent(sk, ret);
	return 0;
}

/* By thread: the socket it is sending to. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u64);
} sending SEC(".maps");

static __always_inline void send_begins(__u64 sk)
{
	__u64 thread = bpf_get_current_pid_tgid();

	if (bpf_map_update_elem(&sending, &thread, &sk, BPF_ANY))
		COUNT_EVENT(untracked);
}

static __always_inline void send_ends(__s32 ret)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u64 *sk = bpf_map_lookup_elem(&sending, &thread);

	if (sk && ret > 0)
		sent((struct sock *)*sk, ret);
	bpf_map_delete_elem(&sending, &thread);
}

SEC("kprobe/tcp_sendmsg")
int BPF_KPROBE(before_sendmsg, __u64 sk)
{
	send_begins(sk);
	return 0;
}

SEC("kretprobe/tcp_sendmsg")
int BPF_KRETPROBE(returned_sendmsg, int ret)
{
	send_ends(ret);
	return 0;
}

SEC("kprobe/tcp_sendpage")
int BPF_KPROBE(before_sendpage, __u64 sk)
{
	send_begins(sk);
	return 0;
}

SEC("kretprobe/tcp_sendpage")
int BPF_KRETPROBE(returned_sendpage, int ret)
{
	send_ends(ret);
	return 0;
}

#endif
