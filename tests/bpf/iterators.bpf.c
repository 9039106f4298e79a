// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Iterators: over tasks, as records and as text, and over a map. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct seq_file;

struct bpf_iter_meta {
	union { struct seq_file *seq; };
	u64 session_id;
	u64 seq_num;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	union { struct bpf_iter_meta *meta; };
	union { struct task_struct *task; };
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_map_elem {
	union { struct bpf_iter_meta *meta; };
	union { void *map; };
	union { void *key; };
	union { void *value; };
} __attribute__((preserve_access_index));

struct seen {
	u32 pid;
	u32 tgid;
};
const struct seen *unused_seen __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} squares SEC(".maps");

struct task_ids {
	int pid, tgid;
};

struct task_struct___ids {
	int pid, tgid;
} __attribute__((preserve_access_index));

SEC("iter/task")
int all_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct___ids *task = (void *)ctx->task;
	struct seen seen;

	if (!task)
		return 0;
	seen.pid = task->pid;
	seen.tgid = task->tgid;
	bpf_seq_write(ctx->meta->seq, &seen, sizeof(seen));
	return 0;
}

SEC("iter/bpf_map_elem")
int all_elements(struct bpf_iter__bpf_map_elem *ctx)
{
	u64 *value = ctx->value;

	if (value)
		bpf_seq_write(ctx->meta->seq, value, sizeof(*value));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
