/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every tool that shows events of the kernel needs: who is wanted, and the way a record takes. */
#ifndef __PYEBPF_EVENTS_BPF_H
#define __PYEBPF_EVENTS_BPF_H

#include "actor.h"
#include "ring.bpf.h"
#include "wanted.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22); /* some 20,000 events: a burst of 10,000 finds room while the reader sleeps */
} events SEC(".maps");

#ifdef __PYEBPF_TALLY_BPF_H /* events that are calls of functions: one tally for both */
#define EVENT_TALLY tally
#else
#define EVENT_TALLY event_tally
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_tally);
} tallies SEC(".maps");
#endif

#define COUNT_EVENTS(field, number)                                                                                    \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct EVENT_TALLY *tally = bpf_map_lookup_elem(&tallies, &zero);                                      \
		if (tally)                                                                                             \
			__sync_fetch_and_add(&tally->field, number);                                                   \
	} while (0)
#define COUNT_EVENT(field) COUNT_EVENTS(field, 1)

#ifdef __PYEBPF_TALLY_BPF_H /* probes in programs are placed before a child is born */
#define wanted_family wanted
#else
#include "follow.bpf.h"
#endif

/* Filters beyond those of wanted.bpf.h. */
const volatile __u32 tracer_tgid = 0; /* ourselves, not shown unless asked for */
const volatile __u32 only_tid = 0;
const volatile bool filter_uid = false;
const volatile __u32 only_uid = 0;
const volatile bool filter_cgroup = false;
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY); /* and all below it */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} cgroups SEC(".maps");

/* Is what the current process does to be shown? pid_tgid: from current_pid_tgid(). */
static __always_inline bool wanted_here(__u64 pid_tgid)
{
	if (!pid_tgid || !wanted_family(pid_tgid)) /* 0: not in our PID namespace */
		return false;
	if (tracer_tgid && pid_tgid >> 32 == tracer_tgid)
		return false;
	if (only_tid && (__u32)pid_tgid != only_tid)
		return false;
	if (filter_uid && (__u32)bpf_get_current_uid_gid() != only_uid)
		return false;
	return !filter_cgroup || bpf_current_task_under_cgroup(&cgroups, 0) == 1;
}

static __always_inline void actor_here(struct actor *actor, __u64 pid_tgid)
{
	actor->time = bpf_ktime_get_ns();
	actor->tgid = pid_tgid >> 32;
	actor->tid = (__u32)pid_tgid;
	actor->uid = (__u32)bpf_get_current_uid_gid();
	actor->reserved = 0;
	bpf_get_current_comm(actor->comm, sizeof(actor->comm));
}

/* Room for a record; its size is a constant. NULL, and counted, when the buffer is full. */
static __always_inline void *reserve(__u64 size)
{
	void *record = bpf_ringbuf_reserve(&events, size, 0);

	if (!record)
		COUNT_EVENT(dropped);
	return record;
}

static __always_inline void submit(void *record)
{
	submit_to(&events, record);
	COUNT_EVENT(sent);
}

/*
 * A record with a text behind it, read from the process's memory: `head` bytes, then TEXT_SHORT or, for the few that
 * need it, TEXT_LONG bytes (more than PATH_MAX, which so counts as whole). `size` becomes the length with the NUL, or
 * -errno; TEXT_LONG: it was cut.
 * Memory is taken from the ring buffer, not from a buffer a CPU: programs may be preempted (tracepoints since Linux 7.0).
 */
enum text_sizes { TEXT_SHORT = 128, TEXT_LONG = 4096 + 8 };
const enum text_sizes *unused_text_sizes __attribute__((unused));

static __always_inline void *reserve_with_text(__u64 head, const void *text, __s32 *size)
{
	char *record = reserve(head + TEXT_SHORT);

	if (!record)
		return NULL;
	*size = bpf_probe_read_user_str(record + head, TEXT_SHORT, text);
	if (*size == TEXT_SHORT) {
		/* With a wake-up: the kernel wakes for a record only if the reader has taken all before it, this one too. */
		bpf_ringbuf_discard(record, 0);
		record = reserve(head + TEXT_LONG);
		if (!record)
			return NULL;
		*size = bpf_probe_read_user_str(record + head, TEXT_LONG, text);
	}
	if (*size < 0)
		COUNT_EVENT(unread);
	return record;
}

#endif
