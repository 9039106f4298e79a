/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Handing a record to a reader who may be asleep, or looking every millisecond. */
#ifndef __PYEBPF_RING_BPF_H
#define __PYEBPF_RING_BPF_H

/* 1: the reader looks by itself, as much comes; see core/ringbuf.py. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} awake SEC(".maps");

/*
 * Waking a reader costs the traced thread ten times what the record does. One that is awake isn't woken; but it may
 * have gone to sleep since we looked. Submitting is a full barrier, as is what the reader does between saying that it
 * sleeps and its last look at the buffer: so it sees the record, or we see that it sleeps.
 */
static __always_inline void submit_to(void *ring, void *record)
{
	__u32 zero = 0;
	volatile __u64 *looking = bpf_map_lookup_elem(&awake, &zero);
	void *nudge;

	if (!looking || !*looking) {
		bpf_ringbuf_submit(record, 0);
		return;
	}
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	if (*looking)
		return;
	nudge = bpf_ringbuf_reserve(ring, 8, 0); /* no room: then it has seen what fills the buffer */
	if (nudge)
		bpf_ringbuf_discard(nudge, BPF_RB_FORCE_WAKEUP);
}

#endif
