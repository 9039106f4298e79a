/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* threadsnoop: calls of pthread_create. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "threadsnoop.h"
#include "include/regs.bpf.h"
#include "include/site.bpf.h"
#include "include/tally.bpf.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct thread_event *unused_thread_event __attribute__((unused)); /* see the anchor in site.bpf.h */

/* int pthread_create(pthread_t *, const pthread_attr_t *, void *(*start_routine)(void *), void *argument) */
SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid(), cookie = site_cookie(ctx), words[6];
	struct thread_event *event;

	own_stack();
	(void)cookie; /* read all the same: a kernel without cookies runs a copy of the program a site */
	if (!wanted_here(pid_tgid))
		return 0;
	event = reserve(sizeof(*event));
	if (!event)
		return 0;
	read_argument_registers(ctx, false, words);
	actor_here(&event->actor, pid_tgid);
	event->start_routine = words[2];
	event->argument = words[3];
	submit(event);
	return 0;
}
