/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* sslsniff: what programs read and write through TLS libraries, before and after encryption. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "sslsniff.h"

struct call {
	__u64 start; /* ns, CLOCK_MONOTONIC */
	__u64 data;
	__u64 size_at; /* where the number of bytes is stored */
	__u64 sp;
};
#include "include/frame.bpf.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct ssl_event *unused_ssl_event __attribute__((unused));
const enum ssl_rooms *unused_ssl_rooms __attribute__((unused));
const enum ssl_act *unused_ssl_act __attribute__((unused));
const enum ssl_form *unused_ssl_form __attribute__((unused));

#define EFAULT 14

const volatile __u64 room = 16384; /* bytes of data that are kept */

/* By a function's index. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ssl_function);
} functions SEC(".maps");

static __always_inline void send(struct ssl_event *event, const struct call *call, __u64 pid_tgid, __u32 function)
{
	__u64 now = bpf_ktime_get_ns();

	actor_here(&event->actor, pid_tgid);
	event->actor.time = now;
	event->latency = call->start ? now - call->start : 0;
	event->function = function;
	event->ended = call->start != 0;
	event->reserved = 0;
	submit(event);
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx), words[6] = {};
	__u32 convention = site_abi(cookie)->convention, index = (__u32)cookie;
	struct call call = {};
	const struct ssl_function *function;
	struct ssl_event *event;
	struct frame_key key;

	own_stack();
	function = bpf_map_lookup_elem(&functions, &index);
	if (!function || !wanted_here(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key))
		return 0;
	if (function->entry_only) {
		event = reserve(sizeof(*event) + SSL_SHORT);
		if (event) {
			event->size = 0;
			event->kept = 0;
			send(event, &call, pid_tgid, index);
		}
		return 0;
	}
	if (convention == CALL_GO_STACK)
		/* ABI0: arguments begin above the return address (amd64) or the saved link register's slot (arm64). */
		bpf_probe_read_user(words, sizeof(words), (void *)(REG_SP(ctx) + 8));
	else
		read_argument_registers(ctx, convention == CALL_GO, words);
	call.data = words[1];
	call.size_at = words[3];
	call.sp = REG_SP(ctx);
	call.start = bpf_ktime_get_ns();
	frame_enter(&key, &call);
	return 0;
}

/* How many bytes; not positive: none. */
static __always_inline __s64 size_of(struct pt_regs *ctx, __u32 convention, enum ssl_form form, const struct call *call)
{
	__u64 result = read_result_register(ctx), size = 0;

	if (convention == CALL_GO_STACK) { /* results lie behind the receiver and the slice */
		bpf_probe_read_user(&result, sizeof(result), (void *)(REG_SP(ctx) + 8 + 32));
		return result;
	}
	if (form == SSL_WORD)
		return result;
	if (form == SSL_ZERO)
		return !(__s32)result;
	if (form == SSL_INT)
		return (__s32)result;
	if ((__s32)result == 1 && bpf_probe_read_user(&size, sizeof(size), (void *)call->size_at))
		COUNT_EVENT(unread);
	return size;
}

static __always_inline struct ssl_event *reserve_with_data(__u64 most, __u64 size, __u64 data)
{
	struct ssl_event *event = reserve(sizeof(*event) + most);

	if (!event)
		return NULL;
	if (size > most)
		size = most;
	event->kept = size;
	if (bpf_probe_read_user(event + 1, size, (void *)data)) {
		event->kept = -EFAULT;
		COUNT_EVENT(unread);
	}
	return event;
}

/* The data are read at the return: they have just been touched, so their pages are there. */
SEC("uprobe")
int on_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx), kept;
	__u32 convention = site_abi(cookie)->convention, index = (__u32)cookie;
	const struct ssl_function *function;
	struct ssl_event *event;
	struct frame_key key;
	struct call call;
	__s64 size;

	own_stack();
	function = bpf_map_lookup_elem(&functions, &index);
	if (!function || !wanted(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key) ||
	    !frame_leave(&key, cookie, &call))
		return 0;
	size = size_of(ctx, convention, function->form, &call);
	if (size <= 0)
		return 0;
	if (function->act == SSL_SHAKES_HANDS)
		size = 0;
	/* Go may have copied the goroutine's stack, and with it what the slice points to. */
	if (convention != CALL_C && call.data - call.sp < key.depth)
		call.data += REG_SP(ctx) - call.sp;
	/* The record's size must be a constant to the verifier: one of a few. */
	kept = size;
	if (kept > room)
		kept = room;
	if (kept <= SSL_SHORT)
		event = reserve_with_data(SSL_SHORT, kept, call.data);
	else if (kept <= SSL_MIDDLE)
		event = reserve_with_data(SSL_MIDDLE, kept, call.data);
	else if (kept <= SSL_RECORD)
		event = reserve_with_data(SSL_RECORD, kept, call.data);
	else
		event = reserve_with_data(room, kept, call.data);
	if (!event)
		return 0;
	event->size = size;
	send(event, &call, pid_tgid, index);
	return 0;
}
