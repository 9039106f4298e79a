/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* funcslower: a record for each call that takes longer than a threshold. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "funcslower.h"

struct call {
	__u64 start; /* ns, CLOCK_MONOTONIC */
	__u64 arguments[SLOWER_ARGUMENTS];
};
#include "include/frame.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u64 threshold = 1000000; /* ns */
const volatile bool want_arguments = false;
const volatile bool want_user_stack = false;
const volatile bool want_kernel_stack = false;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} calls SEC(".maps");

/* See the anchor in site.bpf.h. */
const struct slow_call_stacks *unused_slow_call_stacks __attribute__((unused));

static __always_inline void read_arguments(struct pt_regs *ctx, __u64 cookie, __u64 *words)
{
	__u32 convention = site_abi(cookie)->convention;

	if (convention == CALL_GO_STACK)
		/* ABI0: arguments begin above the return address (amd64) or the saved link register's slot (arm64). */
		bpf_probe_read_user(words, SLOWER_ARGUMENTS * sizeof(*words), (void *)(REG_SP(ctx) + 8));
	else
		read_argument_registers(ctx, convention == CALL_GO, words);
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx);
	struct frame_key key;
	struct call call = {};

	own_stack();
	if (!wanted(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key))
		return 0;
	if (want_arguments)
		read_arguments(ctx, cookie, call.arguments);
	call.start = bpf_ktime_get_ns();
	frame_enter(&key, &call);
	return 0;
}

SEC("uprobe")
int on_return(struct pt_regs *ctx)
{
	__u64 now = bpf_ktime_get_ns(), pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx);
	bool want_stacks = want_user_stack || want_kernel_stack;
	struct slow_call_stacks *stacks;
	struct slow_call *record;
	struct frame_key key;
	struct call call;

	own_stack();
	if (!wanted(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key) || !frame_leave(&key, cookie, &call))
		return 0;
	if (now - call.start < threshold)
		return 0;

	/* The size must be a constant to the verifier, which prunes the branch not taken. */
	if (want_stacks)
		stacks = bpf_ringbuf_reserve(&calls, sizeof(*stacks), 0);
	else
		stacks = bpf_ringbuf_reserve(&calls, sizeof(*record), 0);
	if (!stacks) {
		TALLY(dropped);
		return 0;
	}
	record = &stacks->call;
	record->time = now;
	record->duration = now - call.start;
	record->result = read_result_register(ctx);
	record->popped = cookie >> SITE_POPPED_SHIFT & 1;
	record->caller = record->popped ? 0 : read_return_address(ctx);
	record->goid = go_id(site_abi(cookie), key.g);
	__builtin_memcpy(record->arguments, call.arguments, sizeof(record->arguments));
	record->tgid = pid_tgid >> 32;
	record->tid = (__u32)pid_tgid;
	record->function = key.function;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	record->user_stack_size = 0;
	record->kernel_stack_size = 0;
	if (want_user_stack)
		record->user_stack_size =
			bpf_get_stack(ctx, stacks->user_stack, sizeof(stacks->user_stack), BPF_F_USER_STACK);
	if (want_kernel_stack)
		record->kernel_stack_size = bpf_get_stack(ctx, stacks->kernel_stack, sizeof(stacks->kernel_stack), 0);
	bpf_ringbuf_submit(stacks, 0);
	TALLY(sent);
	return 0;
}
