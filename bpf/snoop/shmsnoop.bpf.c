/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* shmsnoop: uses of System V shared memory. */
#include "vmlinux.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include "shmsnoop.h"
#include "include/events.bpf.h"
#include "include/calls.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct shm_event *unused_shm_event __attribute__((unused));
const enum shm_call *unused_shm_call __attribute__((unused));

static __always_inline void call_ends(struct syscall_exit *ctx, struct begun_call *begun, const __u32 call)
{
	struct shm_event *event = reserve(sizeof(*event));

	if (!event)
		return;
	actor_here(&event->actor, current_pid_tgid());
	__builtin_memcpy(event->args, begun->args, sizeof(event->args));
	event->result = ctx->ret;
	event->call = call;
	event->reserved = 0;
	submit(event);
}

WATCH_CALL(shmget, 3, CALL_SHMGET)
WATCH_CALL(shmat, 3, CALL_SHMAT)
WATCH_CALL(shmdt, 1, CALL_SHMDT)
WATCH_CALL(shmctl, 3, CALL_SHMCTL)
