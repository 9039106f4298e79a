/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* trace: a record a call, with what its plan captured. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "trace.h"
#include "include/capture.bpf.h"
#include "include/ring.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool want_user_stack = false;
const volatile bool want_kernel_stack = false;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} calls SEC(".maps");

/* See the anchor in site.bpf.h. */
const struct traced_call_stacks *unused_traced_call_stacks __attribute__((unused));

static __always_inline void send(struct hit *hit)
{
	struct machine *m = hit->machine;
	bool want_stacks = want_user_stack || want_kernel_stack;
	__u64 bytes = entry_size;
	struct traced_call_stacks *stacks;
	struct traced_call *record;

	bytes += return_size;
	/* The size must be a constant to the verifier, which prunes the branch not taken. */
	if (want_stacks)
		stacks = bpf_ringbuf_reserve(&calls, sizeof(*stacks) + bytes, 0);
	else
		stacks = bpf_ringbuf_reserve(&calls, sizeof(*record) + bytes, 0);
	if (!stacks) {
		TALLY(dropped);
		return;
	}
	record = &stacks->call;
	record->time = m->call.start + m->latency;
	record->duration = m->latency;
	record->goid = goroutine(hit);
	record->failed_entry = m->call.capture.failed_entry;
	record->failed_return = m->call.capture.failed_return;
	record->tgid = hit->pid_tgid >> 32;
	record->tid = (__u32)hit->pid_tgid;
	record->function = (__u32)hit->cookie;
	record->popped = hit->cookie >> SITE_POPPED_SHIFT & 1;
	record->caller = want_user_stack && !record->popped ? read_return_address(hit->ctx) : 0;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	record->user_stack_size = 0;
	record->kernel_stack_size = 0;
	if (want_user_stack)
		record->user_stack_size =
			bpf_get_stack(hit->ctx, stacks->user_stack, sizeof(stacks->user_stack), BPF_F_USER_STACK);
	if (want_kernel_stack)
		record->kernel_stack_size =
			bpf_get_stack(hit->ctx, stacks->kernel_stack, sizeof(stacks->kernel_stack), 0);
	if (want_stacks)
		bpf_probe_read_kernel(stacks + 1, bytes, captured(m));
	else
		bpf_probe_read_kernel(record + 1, bytes, captured(m));
	submit_to(&calls, stacks);
	TALLY(sent);
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_enter(&hit, ctx, false, false))
		send(&hit);
	return 0;
}

SEC("uprobe")
int on_return(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_leave(&hit, ctx, false, false))
		send(&hit);
	return 0;
}

SEC("uprobe.s")
int on_entry_sleepable(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_enter(&hit, ctx, false, true))
		send(&hit);
	return 0;
}

SEC("uprobe.s")
int on_return_sleepable(struct pt_regs *ctx)
{
	struct hit hit;

	own_stack();
	if (plan_leave(&hit, ctx, false, true))
		send(&hit);
	return 0;
}
