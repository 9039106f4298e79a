/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* funccount: count calls, one cell a function. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "include/site.bpf.h"
#include "include/stripes.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	if (!current_wanted())
		return 0;

	__u32 cell = striped((__u32)site_cookie(ctx));
	__u64 *count = bpf_map_lookup_elem(&counts, &cell);

	/* Atomic: a uprobe's program can be preempted by another thread's on the same CPU. */
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
