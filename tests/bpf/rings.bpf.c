// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Records by ring buffers and perf buffers, written whenever the process `only` calls getpgid(number). */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {
	u64 number;
	u32 pid;
	u32 urgent : 1;
	int level : 7;
	char comm[16];
};

struct text {
	u32 size;
	char bytes[64];
};

struct words {
	u64 count;
	u32 items[];
};

struct big {
	u64 number;
	char padding[996];
};

const struct event *unused_event __attribute__((unused));
const struct text *unused_text __attribute__((unused));
const struct words *unused_words __attribute__((unused));
const struct big *unused_big __attribute__((unused));

const volatile u32 only = 0;
u64 dropped;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, struct event);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} others SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} samples SEC(".maps");

struct getpgid {
	u64 common;
	long id;
	u64 number;
};

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(struct getpgid *call)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct event event = {}, *slot;

	if (tgid != only)
		return 0;
	event.number = call->number & 0x7FFFFFFF;
	event.pid = tgid;
	event.urgent = event.number & 1;
	event.level = -3;
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	slot = bpf_ringbuf_reserve(&events, sizeof(event), 0);
	if (slot) {
		*slot = event;
		bpf_ringbuf_submit(slot, 0);
	} else {
		__sync_fetch_and_add(&dropped, 1);
	}
	return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_other(struct getpgid *call)
{
	struct text text = {};
	struct { u64 count; u32 items[3]; } words = { 3, { 23, 997, 10007 } };

	if (bpf_get_current_pid_tgid() >> 32 != only)
		return 0;
	text.size = 5;
	__builtin_memcpy(text.bytes, "hello", 6);
	bpf_ringbuf_output(&others, &text, 4 + 6, 0);
	bpf_ringbuf_output(&others, &words, 8 + 12, 0);
	return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_sample(struct getpgid *call)
{
	struct event event = {};
	u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (tgid != only)
		return 0;
	event.number = call->number & 0x7FFFFFFF;
	event.pid = tgid;
	event.level = 5;
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	bpf_perf_event_output(call, &samples, 0xFFFFFFFFULL, &event, sizeof(event));
	return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_big(struct getpgid *call)
{
	static struct big big;

	if (bpf_get_current_pid_tgid() >> 32 != only)
		return 0;
	big.number++;
	bpf_perf_event_output(call, &samples, 0xFFFFFFFFULL, &big, sizeof(big));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
