/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* opensnoop: files that are opened, by name. */
#include "vmlinux.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include "opensnoop.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct open_event *unused_open_event __attribute__((unused)); /* see the anchor in site.bpf.h */

const volatile bool failed_only = false;
const volatile __u32 wanted_flags = 0; /* any of them; 0: whatever the flags */

struct begun {
	__u64 path;
	__u32 flags;
	__u32 mode;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun);
} begun SEC(".maps");

static __always_inline int enter(__u64 path, __u32 flags, __u32 mode)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun open = { path, flags, mode };

	if (!wanted_here(current_pid_tgid()) || (wanted_flags && !(flags & wanted_flags)))
		return 0;
	if (bpf_map_update_elem(&begun, &thread, &open, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

/* The path is read now: the kernel has read it meanwhile, so its page is there. */
static __always_inline int leave(struct syscall_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *open = bpf_map_lookup_elem(&begun, &thread);
	struct open_event *event;
	__s32 size;

	if (!open)
		return 0;
	if (failed_only && ctx->ret >= 0)
		goto forget;
	event = reserve_with_text(sizeof(*event), (void *)open->path, &size);
	if (!event)
		goto forget;
	actor_here(&event->actor, current_pid_tgid());
	event->result = ctx->ret;
	event->flags = open->flags;
	event->mode = open->mode;
	event->path_size = size;
	submit(event);
forget:
	bpf_map_delete_elem(&begun, &thread);
	return 0;
}

SEC("tp/syscalls/sys_enter_open") /* not on arm64 */
int enter_open(struct syscall_enter *ctx)
{
	return enter(ctx->args[0], ctx->args[1], ctx->args[2]);
}

SEC("tp/syscalls/sys_enter_openat")
int enter_openat(struct syscall_enter *ctx)
{
	return enter(ctx->args[1], ctx->args[2], ctx->args[3]);
}

SEC("tp/syscalls/sys_enter_openat2")
int enter_openat2(struct syscall_enter *ctx)
{
	__u64 how[2] = {}; /* struct open_how of linux/openat2.h: flags, mode */

	bpf_probe_read_user(how, sizeof(how), (void *)ctx->args[2]);
	return enter(ctx->args[1], how[0], how[1]);
}

SEC("tp/syscalls/sys_exit_open")
int exit_open(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_exit_openat")
int exit_openat(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_exit_openat2")
int exit_openat2(struct syscall_exit *ctx)
{
	return leave(ctx);
}
