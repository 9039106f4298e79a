/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* statsnoop: files whose metadata is asked for, by name. */
#include "vmlinux.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include "statsnoop.h"
#include "include/events.bpf.h"
#include "include/calls.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct stat_event *unused_stat_event __attribute__((unused)); /* see the anchor in site.bpf.h */

const volatile bool failed_only = false;

#define AT_FDCWD -100

/* The path is read now: the kernel has read it meanwhile, so its page is there. */
static __always_inline void call_ends(struct syscall_exit *ctx, struct begun_call *begun, const __u32 call)
{
	bool at = call == STAT_FSTATAT || call == STAT_STATX; /* the path begins at a directory */
	struct stat_event *event;
	__s32 size;

	if (failed_only && ctx->ret >= 0)
		return;
	event = reserve_with_text(sizeof(*event), (void *)begun->args[at], &size);
	if (!event)
		return;
	actor_here(&event->actor, current_pid_tgid());
	event->result = ctx->ret;
	event->call = call;
	event->dirfd = at ? begun->args[0] : AT_FDCWD;
	event->path_size = size;
	submit(event);
}

WATCH_CALL(newstat, 1, STAT_STAT) /* this and lstat(2) are not on arm64 */
WATCH_CALL(newlstat, 1, STAT_LSTAT)
WATCH_CALL(newfstatat, 2, STAT_FSTATAT)
WATCH_CALL(statx, 2, STAT_STATX)
WATCH_CALL(statfs, 1, STAT_STATFS)
