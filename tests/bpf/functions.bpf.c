// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The kernel's functions and security hooks. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

const volatile u32 only = 0;
u64 calls[8];

static __always_inline void hit(u32 which)
{
	if (bpf_get_current_pid_tgid() >> 32 == only)
		__sync_fetch_and_add(&calls[which], 1);
}

SEC("kprobe/security_task_getpgid")
int on_kprobe(struct pt_regs *ctx)
{
	hit(0);
	return 0;
}

SEC("kretprobe/security_task_getpgid")
int on_kretprobe(struct pt_regs *ctx)
{
	hit(1);
	return 0;
}

SEC("fentry/security_task_getpgid")
int on_fentry(void *ctx)
{
	hit(2);
	return 0;
}

SEC("fexit/security_task_getpgid")
int on_fexit(void *ctx)
{
	hit(3);
	return 0;
}

SEC("lsm/task_getpgid")
int on_lsm(u64 *ctx)
{
	hit(4);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
