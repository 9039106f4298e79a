/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Calls in progress: entry and return of one call, matched by its stack frame.
 *
 * The includer defines struct call (what is remembered of an entry, first member __u64 start, never 0) before this
 * header, and FRAME_BYTES if more bytes than that are kept.
 */
#ifndef __PYEBPF_FRAME_BPF_H
#define __PYEBPF_FRAME_BPF_H

#include "regs.bpf.h"
#include "site.bpf.h"
#include "tally.bpf.h"

#define E2BIG 7 /* linux/errno.h: the map is full */

/* Rows for the calling conventions met in this run; the cookie names the row. */
const volatile struct abi abis[SITE_ABI_ROWS];

/* x86-64: offset of task_struct.thread.fsbase in this kernel, from its BTF; only CALL_GO_STACK needs it. */
const volatile __u32 fsbase_offset = 0;

struct frame_key {
	__u32 tgid;
	__u32 function;
	__u64 g;     /* Go: the goroutine's g, which stays when the goroutine changes thread; else see frame_of */
	__u64 depth; /* Go: g.stack.hi - SP, which stays when the stack is copied; else SP at entry */
};

#ifdef FRAME_BYTES /* captured bytes follow struct call: Python sets the size, so there is no type */
#define FRAME_TYPES                                                                                                    \
	__uint(key_size, sizeof(struct frame_key));                                                                    \
	__uint(value_size, sizeof(struct call))
#else
#define FRAME_TYPES                                                                                                    \
	__type(key, struct frame_key);                                                                                 \
	__type(value, struct call)
#endif

/*
 * Calls come back to the same frames. So a frame keeps its place when its call has returned (start is 0 then): finding
 * it again costs a fraction of an insertion and a deletion, at each call.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	FRAME_TYPES;
} frames SEC(".maps");

bool frames_full = false; /* once and for all: no place is given up */

/*
 * The frames that found no place, while their calls last. LRU: a frame left by a panic, an exception or longjmp never
 * returns, and must make room.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	FRAME_TYPES;
} overflow SEC(".maps");

static __always_inline const volatile struct abi *site_abi(__u64 cookie)
{
	return &abis[(cookie >> SITE_ABI_SHIFT) & (SITE_ABI_ROWS - 1)];
}

/* The goroutine's g (runtime.g) at a site, 0 when it can't be read. */
static __always_inline __u64 go_g(struct pt_regs *ctx, const volatile struct abi *abi)
{
#if defined(__TARGET_ARCH_x86)
	if (abi->convention == CALL_GO_STACK) {
		__u64 fsbase = 0, g = 0;
		void *task = (void *)bpf_get_current_task();

		if (bpf_probe_read_kernel(&fsbase, sizeof(fsbase), task + fsbase_offset))
			return 0;
		if (bpf_probe_read_user(&g, sizeof(g), (void *)(fsbase + (__s64)abi->tls_offset)))
			return 0;
		return g;
	}
#endif
	return REG_GO_G(ctx);
}

/* The goroutine's id; 0 when it isn't Go, or can't be read. */
static __always_inline __u64 go_id(const volatile struct abi *abi, __u64 g)
{
	__u64 goid = 0;

	if (g && abi->goid_offset)
		bpf_probe_read_user(&goid, sizeof(goid), (void *)(g + abi->goid_offset));
	return goid;
}

/* Fills the key of the frame that a site belongs to. False: the goroutine's stack bounds can't be read. */
static __always_inline bool frame_of(struct pt_regs *ctx, __u64 cookie, __u64 pid_tgid, struct frame_key *key)
{
	const volatile struct abi *abi = site_abi(cookie);
	__u64 sp = REG_SP(ctx);

	key->tgid = pid_tgid >> 32;
	key->function = (__u32)cookie;
	if (abi->convention == CALL_C) {
		if (cookie >> SITE_POPPED_SHIFT & 1)
			sp -= RETURN_ADDRESS_SIZE;
		/*
		 * The functions that a tail call leads to are also called by others: only the return address tells
		 * whose return it is, should an exception have left our frame behind.
		 */
		key->g = cookie >> SITE_TAIL_SHIFT & 1 ? read_return_address(ctx) : 0;
		key->depth = sp;
		return true;
	}

	__u64 stack[2]; /* runtime.g begins with stack.lo, stack.hi: Go src/runtime/runtime2.go */
	key->g = go_g(ctx, abi);
	if (bpf_probe_read_user(stack, sizeof(stack), (void *)key->g)) {
		TALLY(unreadable);
		return false;
	}
	key->depth = stack[1] - sp;
	return true;
}

static __always_inline void copy_call(struct call *to, const struct call *from)
{
#ifdef FRAME_BYTES
	bpf_probe_read_kernel(to, FRAME_BYTES, from);
#else
	*to = *from;
#endif
}

static __always_inline void frame_enter(const struct frame_key *key, const struct call *call)
{
	struct call *place = bpf_map_lookup_elem(&frames, key);

	TALLY(entered);
	if (place) {
		if (place->start) /* its call left without returning */
			TALLY(abandoned);
		copy_call(place, call);
		return;
	}
	if (!frames_full) {
		/* int: before Linux 6.4 it is not sign-extended to a long */
		int error = bpf_map_update_elem(&frames, key, call, BPF_NOEXIST);

		if (!error)
			return;
		if (error != -E2BIG) {
			TALLY(refused);
			return;
		}
		frames_full = true;
	}
	if (!bpf_map_update_elem(&overflow, key, call, BPF_NOEXIST))
		TALLY(spilled);
	else if (!bpf_map_update_elem(&overflow, key, call, BPF_ANY))
		TALLY(abandoned);
	else
		TALLY(refused);
}

/* Ends the call in progress in this frame: what its entry remembered. False: there is none. */
static __always_inline bool frame_take(const struct frame_key *key, struct call *call)
{
	struct call *found = bpf_map_lookup_elem(&frames, key);

	if (found) {
		if (!found->start)
			return false;
		copy_call(call, found);
		found->start = 0;
	} else {
		if (!frames_full)
			return false;
		found = bpf_map_lookup_elem(&overflow, key);
		if (!found)
			return false;
		copy_call(call, found);
		bpf_map_delete_elem(&overflow, key);
		TALLY(recovered);
	}
	TALLY(returned);
	return true;
}

/* At an entry that isn't kept: its return must not meet what an earlier call left behind in this frame. */
static __always_inline void frame_forget(const struct frame_key *key)
{
	struct call *found = bpf_map_lookup_elem(&frames, key);

	if (found) {
		if (!found->start)
			return;
		found->start = 0;
		TALLY(abandoned);
	} else if (frames_full && !bpf_map_delete_elem(&overflow, key)) {
		TALLY(recovered);
		TALLY(abandoned);
	}
}

/* Takes the call that entered with this frame. False: it began before we attached, or was evicted. */
static __always_inline bool frame_leave(const struct frame_key *key, __u64 cookie, struct call *call)
{
	if (frame_take(key, call))
		return true;
	if (!(cookie >> SITE_TAIL_SHIFT & 1)) /* else: somebody else's call of a function we tail-call */
		TALLY(unmatched);
	return false;
}

#endif
