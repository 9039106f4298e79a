/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* opensnoop: files that are opened, by name. */
#include "vmlinux.h"
#include "task.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "opensnoop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/path.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct open_event *unused_open_event __attribute__((unused)); /* see the anchor in site.bpf.h */

const volatile bool failed_only = false;
const volatile __u32 wanted_flags = 0; /* any of them; 0: whatever the flags */

#define RESOLVE_IN_ROOT 0x10 /* linux/openat2.h: also a path with a slash in front begins at dirfd */

struct begun {
	__u64 path;
	__u64 how; /* openat2(2)'s: flags, mode, resolve */
	__u32 flags;
	__u32 mode;
	__s32 dirfd;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun);
} begun SEC(".maps");

static __always_inline int enter(__s32 dirfd, __u64 path, __u32 flags, __u32 mode, __u64 how)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun open = { path, how, flags, mode, dirfd, 0 };

	if (!wanted_here(current_pid_tgid()) || (wanted_flags && !how && !(flags & wanted_flags)))
		return 0;
	if (bpf_map_update_elem(&begun, &thread, &open, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

/* What lies in the process's memory is read now: the kernel has read it meanwhile, so its page is there. */
/* full: tell where a relative path begins, which takes the kernel's structures, whose types take time to look up. */
static __always_inline int leave(struct syscall_exit *ctx, bool full)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *open = bpf_map_lookup_elem(&begun, &thread);
	__u64 how[3] = {};
	struct open_event *event;
	__s32 size = 0;

	if (!open)
		return 0;
	if (failed_only && ctx->ret >= 0)
		goto forget;
	if (open->how) {
		if (bpf_probe_read_user(how, sizeof(how), (void *)open->how)) {
			how[0] = how[1] = FLAGS_UNREAD;
			how[2] = 0;
		} else if (wanted_flags && !(how[0] & wanted_flags)) {
			goto forget;
		}
	} else {
		how[0] = open->flags;
		how[1] = open->mode;
	}
	if (full)
		event = reserve_with_place(sizeof(*event), __builtin_offsetof(struct open_event, names_size),
					   (void *)open->path, open->dirfd, how[2] & RESOLVE_IN_ROOT, &size);
	else
		event = reserve_with_text(sizeof(*event), (void *)open->path, &size);
	if (!event)
		goto forget;
	actor_here(&event->actor, current_pid_tgid());
	event->result = ctx->ret;
	event->flags = how[0];
	event->mode = how[1];
	event->path_size = size;
	if (!full)
		event->names_size = 0;
	event->reserved = 0;
	submit(event);
forget:
	bpf_map_delete_elem(&begun, &thread);
	return 0;
}

SEC("tp/syscalls/sys_enter_open") /* neither is on arm64 */
int enter_open(struct syscall_enter *ctx)
{
	return enter(AT_FDCWD, ctx->args[0], ctx->args[1], ctx->args[2], 0);
}

SEC("tp/syscalls/sys_enter_creat")
int enter_creat(struct syscall_enter *ctx)
{
	return enter(AT_FDCWD, ctx->args[0], 01 | 0100 | 01000, ctx->args[1], 0); /* O_WRONLY, O_CREAT, O_TRUNC */
}

SEC("tp/syscalls/sys_enter_openat")
int enter_openat(struct syscall_enter *ctx)
{
	return enter(ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3], 0);
}

SEC("tp/syscalls/sys_enter_openat2")
int enter_openat2(struct syscall_enter *ctx)
{
	return enter(ctx->args[0], ctx->args[1], 0, 0, ctx->args[2]);
}

#define EXIT(name)                                                                                                     \
	SEC("tp/syscalls/sys_exit_" #name)                                                                             \
	int exit_##name(struct syscall_exit *ctx)                                                                      \
	{                                                                                                              \
		return leave(ctx, false);                                                                              \
	}                                                                                                              \
	SEC("tp/syscalls/sys_exit_" #name)                                                                             \
	int full_exit_##name(struct syscall_exit *ctx)                                                                 \
	{                                                                                                              \
		return leave(ctx, true);                                                                               \
	}

EXIT(open)
EXIT(creat)
EXIT(openat)
EXIT(openat2)
