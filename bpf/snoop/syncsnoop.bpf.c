/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* syncsnoop: requests to write what is cached to disk. */
#include "vmlinux.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include "syncsnoop.h"
#include "include/events.bpf.h"
#include "include/calls.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct sync_event *unused_sync_event __attribute__((unused));
const enum sync_call *unused_sync_call __attribute__((unused));

static __always_inline void call_ends(struct syscall_exit *ctx, struct begun_call *begun, const __u32 call)
{
	struct sync_event *event = reserve(sizeof(*event));

	if (!event)
		return;
	actor_here(&event->actor, current_pid_tgid());
	event->duration = event->actor.time - begun->time;
	event->result = ctx->ret;
	event->fd = begun->args[0];
	event->call = call;
	event->reserved = 0;
	submit(event);
}

WATCH_CALL(sync, 0, CALL_SYNC)
WATCH_CALL(fsync, 1, CALL_FSYNC)
WATCH_CALL(fdatasync, 1, CALL_FDATASYNC)
WATCH_CALL(syncfs, 1, CALL_SYNCFS)
WATCH_CALL(msync, 3, CALL_MSYNC)
WATCH_CALL(sync_file_range, 4, CALL_SYNC_FILE_RANGE)
