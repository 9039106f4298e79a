// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A program for each way to be attached. Each counts its calls, of the process that `only` names. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

const volatile u32 only = 0;
u64 calls[32];
u64 last_cookie, last_argument, sum;

static __always_inline void hit(u32 which)
{
	if (!only || bpf_get_current_pid_tgid() >> 32 == only)
		__sync_fetch_and_add(&calls[which & 31], 1);
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	hit(0);
	last_argument = PT_REGS_PARM1(ctx);
	return 0;
}

SEC("uprobe")
int on_cookie(struct pt_regs *ctx)
{
	hit(1);
	last_cookie = bpf_get_attach_cookie(ctx);
	__sync_fetch_and_add(&sum, last_cookie);
	return 0;
}

SEC("uretprobe")
int on_return(struct pt_regs *ctx)
{
	hit(2);
	last_argument = PT_REGS_RC(ctx);
	return 0;
}

SEC("usdt")
int BPF_USDT(on_usdt, long first, int second)
{
	hit(3);
	last_argument = first;
	__sync_fetch_and_add(&sum, second);
	return 0;
}

SEC("uprobe.multi")
int on_multi(struct pt_regs *ctx)
{
	hit(4);
	__sync_fetch_and_add(&sum, bpf_get_attach_cookie(ctx));
	return 0;
}

/* Loaded as a session: called at the entry and at the return. */
SEC("uprobe.session")
int on_session(struct pt_regs *ctx)
{
	hit(5);
	return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_tracepoint(void *ctx)
{
	hit(6);
	return 0;
}

SEC("raw_tp/sys_enter")
int on_raw(u64 *ctx)
{
	if (ctx[1] == 121 || ctx[1] == 155) /* getpgid: x86-64, arm64 */
		hit(7);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_btf, struct pt_regs *regs, long number)
{
	if (number == 121 || number == 155)
		hit(8);
	return 0;
}

SEC("perf_event")
int on_sample(void *ctx)
{
	hit(9);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
