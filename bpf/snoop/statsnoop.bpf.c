/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* statsnoop: files whose metadata is asked for, by name. */
#include "vmlinux.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include "statsnoop.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct stat_event *unused_stat_event __attribute__((unused)); /* see the anchor in site.bpf.h */

const volatile bool failed_only = false;

#define AT_FDCWD -100

struct begun {
	__u64 path;
	__s32 dirfd;
	__u32 call;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun);
} begun SEC(".maps");

static __always_inline int enter(enum stat_call call, __s32 dirfd, __u64 path)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun stat = { path, dirfd, call };

	if (!wanted_here(current_pid_tgid()))
		return 0;
	if (bpf_map_update_elem(&begun, &thread, &stat, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

/* The path is read now: the kernel has read it meanwhile, so its page is there. */
static __always_inline int leave(struct syscall_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *stat = bpf_map_lookup_elem(&begun, &thread);
	struct stat_event *event;
	__s32 size;

	if (!stat)
		return 0;
	if (failed_only && ctx->ret >= 0)
		goto forget;
	event = reserve_with_text(sizeof(*event), (void *)stat->path, &size);
	if (!event)
		goto forget;
	actor_here(&event->actor, current_pid_tgid());
	event->result = ctx->ret;
	event->call = stat->call;
	event->dirfd = stat->dirfd;
	event->path_size = size;
	submit(event);
forget:
	bpf_map_delete_elem(&begun, &thread);
	return 0;
}

SEC("tp/syscalls/sys_enter_newstat") /* this and lstat(2) are not on arm64 */
int enter_newstat(struct syscall_enter *ctx)
{
	return enter(STAT_STAT, AT_FDCWD, ctx->args[0]);
}

SEC("tp/syscalls/sys_exit_newstat")
int exit_newstat(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_newlstat")
int enter_newlstat(struct syscall_enter *ctx)
{
	return enter(STAT_LSTAT, AT_FDCWD, ctx->args[0]);
}

SEC("tp/syscalls/sys_exit_newlstat")
int exit_newlstat(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_newfstatat")
int enter_newfstatat(struct syscall_enter *ctx)
{
	return enter(STAT_FSTATAT, ctx->args[0], ctx->args[1]);
}

SEC("tp/syscalls/sys_exit_newfstatat")
int exit_newfstatat(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_statx")
int enter_statx(struct syscall_enter *ctx)
{
	return enter(STAT_STATX, ctx->args[0], ctx->args[1]);
}

SEC("tp/syscalls/sys_exit_statx")
int exit_statx(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_enter_statfs")
int enter_statfs(struct syscall_enter *ctx)
{
	return enter(STAT_STATFS, AT_FDCWD, ctx->args[0]);
}

SEC("tp/syscalls/sys_exit_statfs")
int exit_statfs(struct syscall_exit *ctx)
{
	return leave(ctx);
}
