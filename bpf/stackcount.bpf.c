/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* stackcount: calls counted by the stacks that led to them. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "stackcount.h"
#include "include/regs.bpf.h"
#include "include/site.bpf.h"
#include "include/tally.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool want_user_stack = true;
const volatile bool want_kernel_stack = false;
const volatile bool by_process = true; /* user addresses mean something within a process only */

/* Python sets max_entries: a map that isn't wanted has one. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, STACKCOUNT_FRAMES * sizeof(__u64));
} user_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, STACKCOUNT_FRAMES * sizeof(__u64));
} kernel_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct stack_key);
	__type(value, struct stack_count);
} counts SEC(".maps");

/* See the anchor in site.bpf.h. */
const enum stackcount_limits *unused_stackcount_limits __attribute__((unused));

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid();
	struct stack_key key = { .user_stack = -1, .kernel_stack = -1 };
	struct stack_count *count;

	if (!wanted(pid_tgid))
		return 0;
	key.tgid = by_process ? pid_tgid >> 32 : 0;
	key.function = (__u32)site_cookie(ctx);
	/* A row whose stack another one took (EEXIST) is counted without its stack. */
	if (want_user_stack) {
		key.user_stack = bpf_get_stackid(ctx, &user_stacks, BPF_F_USER_STACK);
		key.caller = read_return_address(ctx);
	}
	if (want_kernel_stack)
		key.kernel_stack = bpf_get_stackid(ctx, &kernel_stacks, 0);
	if (key.user_stack == -17 || key.kernel_stack == -17) /* EEXIST */
		TALLY(collided);

	count = bpf_map_lookup_elem(&counts, &key);
	if (!count) {
		struct stack_count fresh = {};

		bpf_get_current_comm(fresh.comm, sizeof(fresh.comm));
		bpf_map_update_elem(&counts, &key, &fresh, BPF_NOEXIST); /* another CPU may have been faster */
		count = bpf_map_lookup_elem(&counts, &key);
	}
	if (count)
		__sync_fetch_and_add(&count->calls, 1);
	else
		TALLY(uncounted);
	return 0;
}
