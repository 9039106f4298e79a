/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* gethostlatency: how long looking up host names takes. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "gethostlatency.h"

#define GO_HOST 256 /* a name of DNS has at most 253 characters */

struct call {
	__u64 start; /* ns, CLOCK_MONOTONIC */
	__u64 host;
	__u64 found_at; /* where the address of what was found is stored */
	__u64 size;     /* of a host of Go's */
	/* Go's garbage collector may take a string when the function needs it no more: it is read at the entry. */
	char text[GO_HOST];
};
#include "include/frame.bpf.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct lookup_event *unused_lookup_event __attribute__((unused));
const enum lookup_form *unused_lookup_form __attribute__((unused));

#define ERANGE 34
#define EFAULT 14

/* By a function's index: enum lookup_form. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} forms SEC(".maps");

/*
 * A thread's lookup in progress. Some functions do their work by calling another of them: the one the program called is
 * shown. A lookup may have been left by longjmp; then its return address is no longer where it was.
 */
struct outermost {
	__u64 sp;
	__u64 caller;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct outermost);
} lookups SEC(".maps");

static __always_inline bool is_nested(struct pt_regs *ctx, __u64 thread)
{
	struct outermost *lookup = bpf_map_lookup_elem(&lookups, &thread), now = {};
	__u64 caller;

	now.sp = REG_SP(ctx);
	now.caller = read_return_address(ctx);
	if (lookup && now.sp < lookup->sp) {
		caller = lookup->caller;
		if (RETURN_ADDRESS_SIZE)
			bpf_probe_read_user(&caller, sizeof(caller), (void *)lookup->sp);
		if (caller == lookup->caller)
			return true;
	}
	bpf_map_update_elem(&lookups, &thread, &now, BPF_ANY);
	return false;
}

/* Words from the arguments on (Go's stack ABI: above the return address), by their number; both are constants. */
static __always_inline bool go_host(struct pt_regs *ctx, bool on_stack, bool fifth, struct call *call)
{
	__u64 words[6], host[2];

	if (on_stack) {
		if (bpf_probe_read_user(host, sizeof(host), (void *)(REG_SP(ctx) + 8 + (fifth ? 40 : 24))))
			return false;
	} else {
		read_argument_registers(ctx, true, words);
		host[0] = fifth ? words[5] : words[3];
		host[1] = fifth ? REG_GO_SEVENTH(ctx) : words[4];
	}
	call->host = host[0];
	call->size = host[1];
	if (host[1] >= GO_HOST)
		host[1] = GO_HOST - 1;
	return !bpf_probe_read_user(call->text, host[1] & (GO_HOST - 1), (void *)host[0]);
}

static __always_inline bool go_failed(struct pt_regs *ctx, bool on_stack, bool fifth)
{
	__u64 words[6], error = 0;

	if (on_stack) {
		bpf_probe_read_user(&error, sizeof(error), (void *)(REG_SP(ctx) + 8 + (fifth ? 56 : 40) + 24));
		return error;
	}
	read_argument_registers(ctx, true, words); /* results come in the same */
	return words[3];
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx), words[6];
	struct call call = {};
	struct frame_key key;
	__u32 function = (__u32)cookie, *form;

	own_stack();
	form = bpf_map_lookup_elem(&forms, &function);
	if (!form || !wanted_here(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key))
		return 0;
	if (*form >= LOOKUP_GO_THIRD) {
		if (!go_host(ctx, site_abi(cookie)->convention == CALL_GO_STACK, *form == LOOKUP_GO_FIFTH, &call))
			call.host = 0;
		call.start = bpf_ktime_get_ns();
		frame_enter(&key, &call);
		return 0;
	}
	read_argument_registers(ctx, false, words);
	if (!words[0] || is_nested(ctx, bpf_get_current_pid_tgid())) /* getaddrinfo(NULL, …): no name to look up */
		return 0;
	call.host = words[0];
	if (*form == LOOKUP_FIFTH)
		call.found_at = words[4];
	else if (*form == LOOKUP_SIXTH)
		call.found_at = words[5];
	call.start = bpf_ktime_get_ns();
	frame_enter(&key, &call);
	return 0;
}

SEC("uprobe")
int on_return(struct pt_regs *ctx)
{
	__u64 now = bpf_ktime_get_ns(), pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx);
	__u64 result = read_result_register(ctx), thread = bpf_get_current_pid_tgid(), found = 0;
	__u32 function = (__u32)cookie, *form;
	struct lookup_event *event;
	struct frame_key key;
	struct call call;
	__s32 size, code = 0;

	own_stack();
	form = bpf_map_lookup_elem(&forms, &function);
	if (!form || !wanted(pid_tgid) || !frame_of(ctx, cookie, pid_tgid, &key) || !frame_leave(&key, cookie, &call))
		return 0;
	if (*form >= LOOKUP_GO_THIRD) {
		size = call.size < GO_HOST ? call.size + 1 : GO_HOST; /* all of it: it was cut */
		event = reserve(sizeof(*event) + GO_HOST);
		if (!event)
			return 0;
		bpf_probe_read_kernel(event + 1, GO_HOST, call.text);
		if (!call.host) {
			size = -EFAULT;
			COUNT_EVENT(unread);
		}
		found = !go_failed(ctx, site_abi(cookie)->convention == CALL_GO_STACK, *form == LOOKUP_GO_FIFTH);
		goto send;
	}
	bpf_map_delete_elem(&lookups, &thread);
	if (*form == LOOKUP_CODE) {
		code = (__s32)result;
		found = !code;
	} else if (*form == LOOKUP_POINTER) {
		found = result;
	} else {
		if ((__s32)result == ERANGE) /* the caller tries again with a larger buffer */
			return 0;
		bpf_probe_read_user(&found, sizeof(found), (void *)call.found_at);
	}
	event = reserve_with_text(sizeof(*event), (void *)call.host, &size);
	if (!event)
		return 0;
send:
	actor_here(&event->actor, pid_tgid);
	event->actor.time = now;
	event->latency = now - call.start;
	event->function = function;
	event->code = code;
	event->failed = !found;
	event->host_size = size;
	submit(event);
	return 0;
}
