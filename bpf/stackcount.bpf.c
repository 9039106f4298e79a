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

/*
 * A stack has one row of a STACK_TRACE map where it can be, by its hash; the first that comes keeps it. Those that come
 * later go to the next map, so that a stack is lost only where as many as there are maps came before it.
 *
 * Python sets max_entries, of a map that is wanted to a power of two and one more: so many stacks it has room for, and
 * its rows are the next power of two. Twice the rows make a third of the collisions, for 8 bytes each.
 */
#define STACKS(name)                                                        \
	struct {                                                            \
		__uint(type, BPF_MAP_TYPE_STACK_TRACE);                     \
		__uint(max_entries, 1);                                     \
		__uint(key_size, sizeof(__u32));                            \
		__uint(value_size, STACKCOUNT_FRAMES * sizeof(__u64));      \
	} name SEC(".maps")

STACKS(user_stacks_0);
STACKS(user_stacks_1);
STACKS(user_stacks_2);
STACKS(user_stacks_3);
STACKS(kernel_stacks_0);
STACKS(kernel_stacks_1);
STACKS(kernel_stacks_2);
STACKS(kernel_stacks_3);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct stack_key);
	__type(value, struct stack_count);
} counts SEC(".maps");

/* See the anchor in site.bpf.h. */
const enum stackcount_limits *unused_stackcount_limits __attribute__((unused));

enum { ENOMEM = 12, EEXIST = 17 };

/* The row of the stack, and in its upper bits which of the maps has it; a negative errno. */
static __always_inline __s32 keep_stack(struct pt_regs *ctx, void *const maps[STACKCOUNT_MAPS], __u64 flags)
{
	long row = 0;

#pragma unroll
	for (int i = 0; i < STACKCOUNT_MAPS; i++) {
		row = bpf_get_stackid(ctx, maps[i], flags);
		if (row >= 0)
			return row | i << STACKCOUNT_ROW_BITS;
		if (row != -EEXIST && row != -ENOMEM) /* else the row is taken, or there is no room */
			return row;
	}
	return -EEXIST;
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid();
	struct stack_key key = { .user_stack = -1, .kernel_stack = -1 };
	struct stack_count *count;

	own_stack();
	if (!wanted(pid_tgid))
		return 0;
	key.tgid = by_process ? pid_tgid >> 32 : 0;
	key.function = (__u32)site_cookie(ctx);
	if (want_user_stack) {
		void *const maps[] = { &user_stacks_0, &user_stacks_1, &user_stacks_2, &user_stacks_3 };

		key.user_stack = keep_stack(ctx, maps, BPF_F_USER_STACK);
		key.caller = read_return_address(ctx);
	}
	if (want_kernel_stack) {
		void *const maps[] = { &kernel_stacks_0, &kernel_stacks_1, &kernel_stacks_2, &kernel_stacks_3 };

		key.kernel_stack = keep_stack(ctx, maps, 0);
	}
	if (key.user_stack == -EEXIST || key.kernel_stack == -EEXIST) /* it is counted without its stack */
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
