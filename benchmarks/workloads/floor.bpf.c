/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that do nothing, or one thing: what a probe costs with nothing in it. */
#include <pyebpf.bpf.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct event {
	__u64 words[8];
};

PYEBPF_RING(events, struct event, 1 << 24);

SEC("uprobe.multi")
int empty(void *ctx)
{
	return 0;
}

SEC("uretprobe.multi")
int empty_return(void *ctx)
{
	return 0;
}

/* A record that nobody reads; the ring holds what a benchmark makes. */
SEC("uprobe.multi")
int record(void *ctx)
{
	struct event *event = events_reserve();

	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}
