// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The embedder's own object that the documentation speaks of: a record each time a function is entered.
#include <pyebpf.bpf.h>

struct event {
	__u64 time;
	__u32 pid;
	char comm[16];
};

PYEBPF_RING(events, struct event, 1 << 16);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

const volatile __u32 target_tgid = 0;

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, *count;
	struct event *event;

	if (target_tgid && tgid != target_tgid)
		return 0;
	count = bpf_map_lookup_elem(&counts, &tgid);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&counts, &tgid, &one, BPF_NOEXIST);
	event = events_reserve();
	if (!event)
		return 0;
	event->time = bpf_ktime_get_ns();
	event->pid = tgid;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	events_submit(event);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
