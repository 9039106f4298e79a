/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * For programs whose events Python reads through pyebpf.Object. Include it first: it brings the kernel's types and
 * libbpf's helpers. With a vmlinux.h of your own (bpftool btf dump file /sys/kernel/btf/vmlinux format c), put that
 * into a folder named with -I: it is found before ours.
 */
#ifndef __PYEBPF_BPF_H
#define __PYEBPF_BPF_H

#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "own_stack.bpf.h"

/*
 * Makes a structure known to Python, by its name: clang leaves a type out of an object that nothing global refers to.
 * Use it for what a perf buffer or a ring buffer of several kinds of records carries: obj.ring("events", type="NAME").
 */
#define PYEBPF_RECORD(type) const type *PYEBPF_JOIN(pyebpf_record_, __COUNTER__) __attribute__((unused))
#define PYEBPF_JOIN(a, b) PYEBPF_JOIN_(a, b)
#define PYEBPF_JOIN_(a, b) a##b

/*
 * A ring buffer of records of one type: PYEBPF_RING(events, struct event, 1 << 20) declares the map `events` of so many
 * bytes (a power of two, at least a page), and
 *
 *	struct event *events_reserve(void)        room for a record; NULL when the buffer is full
 *	void events_submit(struct event *)        hands it to Python
 *	void events_discard(struct event *)       gives the room back
 *	__u64 events_dropped                      records there was no room for: obj.bss["events_dropped"]
 *
 * What is reserved must be submitted or discarded on every path. Its bytes are those of an older record: set all.
 */
#define PYEBPF_RING(name, record, bytes)                                                                               \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                                    \
		__uint(max_entries, bytes);                                                                            \
	} name SEC(".maps");                                                                                           \
	const record *name##_record __attribute__((unused));                                                           \
	__u64 name##_dropped = 0;                                                                                      \
	static __always_inline __attribute__((unused)) record *name##_reserve(void)                                    \
	{                                                                                                              \
		record *room = bpf_ringbuf_reserve(&name, sizeof(record), 0);                                          \
                                                                                                                       \
		if (!room)                                                                                             \
			__sync_fetch_and_add(&name##_dropped, 1);                                                      \
		return room;                                                                                           \
	}                                                                                                              \
	static __always_inline __attribute__((unused)) void name##_submit(record *full)                                \
	{                                                                                                              \
		bpf_ringbuf_submit(full, 0);                                                                           \
	}                                                                                                              \
	static __always_inline __attribute__((unused)) void name##_discard(record *unwanted)                           \
	{                                                                                                              \
		bpf_ringbuf_discard(unwanted, 0);                                                                      \
	}                                                                                                              \
	_Static_assert(sizeof(record) > 0, "a record has at least one byte")

/* libbpf 1.2 and newer have these names; before, what they do is that of the kernel's functions. */
#ifndef BPF_UPROBE
#define BPF_UPROBE(name, args...) BPF_KPROBE(name, ##args)
#endif
#ifndef BPF_URETPROBE
#define BPF_URETPROBE(name, args...) BPF_KRETPROBE(name, ##args)
#endif

#endif
