/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A call's entry and return: its plan is carried out, and with returns its capture kept in between. */
#ifndef __PYEBPF_CAPTURE_BPF_H
#define __PYEBPF_CAPTURE_BPF_H

#include "plan.bpf.h"

/* The thread's element of scratch. */
static __always_inline struct machine *plan_scratch(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct machine *machine = bpf_map_lookup_elem(&scratch, &thread);
	__u32 zero = 0;
	void *zeros;

	if (machine)
		return machine;
	zeros = bpf_map_lookup_elem(&blank, &zero);
	if (zeros)
		bpf_map_update_elem(&scratch, &thread, zeros, BPF_ANY);
	machine = bpf_map_lookup_elem(&scratch, &thread);
	if (!machine)
		TALLY(refused);
	return machine;
}

/* Begins at a site of a process that is traced. NULL: there is nothing to do. */
static __always_inline const struct plan *plan_begin(struct hit *hit, struct pt_regs *ctx)
{
	__u32 function;

	hit->pid_tgid = current_pid_tgid();
	if (!wanted(hit->pid_tgid))
		return NULL;
	hit->ctx = ctx;
	hit->cookie = site_cookie(ctx);
	hit->machine = plan_scratch();
	if (!hit->machine)
		return NULL;
	function = hit->cookie;
	return bpf_map_lookup_elem(&plans, &function);
}

/* Forgets what another call left. */
static __always_inline void plan_clear(struct machine *m)
{
	__u32 zero = 0;
	void *zeros = bpf_map_lookup_elem(&blank, &zero);

	if (zeros)
		bpf_probe_read_kernel(captured(m), entry_size + return_size, zeros);
}

/* At an entry. True: the call is complete in scratch, as nobody waits for its return. */
static __always_inline bool plan_enter(struct hit *hit, struct pt_regs *ctx, bool clear, bool sleepable)
{
	const struct plan *plan = plan_begin(hit, ctx);
	struct frame_key key;
	struct machine *m;
	bool accepted;

	if (!plan || (returns && !frame_of(ctx, hit->cookie, hit->pid_tgid, &key)))
		return false;
	m = hit->machine;
	m->latency = m->base = 0;
	accepted = !filters_entry || plan_wants(hit, plan->entry_filter, sleepable);
	if (!accepted) {
		if (returns)
			frame_forget(&key);
		return false;
	}
	if (clear)
		plan_clear(m);
	plan_run(hit, plan->entry, false, sleepable);
	m->call.capture.function = hit->cookie;
	m->call.capture.failed_entry = m->failed;
	m->call.capture.failed_return = 0;
	m->call.sp = REG_SP(ctx);
	m->call.start = bpf_ktime_get_ns();
	if (!returns)
		return true;
	frame_enter(&key, &m->call);
	return false;
}

/* At a return. True: the call is complete in scratch. */
static __always_inline bool plan_leave(struct hit *hit, struct pt_regs *ctx, bool clear, bool sleepable)
{
	__u64 now = bpf_ktime_get_ns();
	const struct plan *plan = plan_begin(hit, ctx);
	struct frame_key key;
	struct machine *m;

	if (!plan || !frame_of(ctx, hit->cookie, hit->pid_tgid, &key))
		return false;
	m = hit->machine;
	if (clear)
		plan_clear(m);
	if (!frame_take(&key, &m->call)) {
		/* Else: a call that the filter rejected, or somebody else's of a function we tail-call. */
		if (!plan->entry_filter && !(hit->cookie >> SITE_TAIL_SHIFT & 1))
			TALLY(unmatched);
		return false;
	}
	m->latency = now - m->call.start;
	m->base = entry_size;
	/* Go may have copied the goroutine's stack meanwhile, and then it changed all pointers into it but ours. */
	m->older = key.g && site_abi(hit->cookie)->convention != CALL_C ? key.depth : 0;
	m->moved = REG_SP(ctx) - m->call.sp;
	if (filters_return && !plan_wants(hit, plan->return_filter, sleepable))
		return false;
	plan_run(hit, plan->ret, false, sleepable);
	m->call.capture.failed_return = m->failed;
	return true;
}

#endif
