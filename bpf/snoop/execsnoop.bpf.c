/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* execsnoop: programs that are started, with all their arguments, and those that could not be. */
#include "vmlinux.h"
#include "task.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "execsnoop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct exec_event *unused_exec_event __attribute__((unused));
const enum exec_sizes *unused_exec_sizes __attribute__((unused));

const volatile __u32 only_ppid = 0;

struct begun {
	__u64 file;
	__u64 args;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct begun);
} begun SEC(".maps");

static __always_inline __u32 parent_here(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return tgid_of(BPF_CORE_READ(task, real_parent));
}

static __always_inline void fill(struct exec_event *event, __u32 ppid, __s32 result)
{
	actor_here(&event->actor, current_pid_tgid());
	event->ppid = ppid;
	event->result = result;
	event->reserved = 0;
}

/*
 * A program that was started: its file's name is the kernel's, its arguments lie one behind the other in its memory,
 * where the kernel has just put them.
 */
static __always_inline void started(struct linux_binprm *bprm, __u32 ppid, __u64 args, __u64 size, __u32 file_room,
				    __u32 args_room)
{
	const char *file = BPF_CORE_READ(bprm, filename);
	struct exec_event *event = reserve(sizeof(*event) + file_room + args_room);
	char *text = (char *)(event + 1);
	__u32 read = size < args_room ? size : args_room;

	if (!event)
		return;
	fill(event, ppid, 0);
	event->file_room = file_room;
	event->file_size = bpf_probe_read_kernel_str(text, file_room, file);
	event->is_script = BPF_CORE_READ(bprm, interp) != file;
	event->args_size = read;
	event->args_left = size - read > 0x7fffffff ? 0x7fffffff : size - read;
	if (read) {
		__s32 failed = bpf_probe_read_user(text + file_room, read, (void *)args);

		if (failed) {
			event->args_size = failed;
			COUNT_EVENT(unread);
		}
	}
	submit(event);
}

SEC("raw_tp/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	__u64 caller = bpf_get_current_pid_tgid() >> 32 << 32 | (__u32)old_pid;
	__u64 args = BPF_CORE_READ(task, mm, arg_start), size = BPF_CORE_READ(task, mm, arg_end) - args;
	char file[FILE_SHORT];
	__u32 ppid;

	/* The thread that called has become the process's first one: its number before is given. */
	bpf_map_delete_elem(&begun, &caller);
	if (!wanted_here(current_pid_tgid()))
		return 0;
	ppid = parent_here();
	if (only_ppid && ppid != only_ppid)
		return 0;
	if (bpf_probe_read_kernel_str(file, sizeof(file), BPF_CORE_READ(bprm, filename)) == sizeof(file) ||
	    size > ARGS_MIDDLE)
		started(bprm, ppid, args, size, FILE_LONG, ARGS_LONG);
	else if (size > ARGS_SHORT)
		started(bprm, ppid, args, size, FILE_SHORT, ARGS_MIDDLE);
	else
		started(bprm, ppid, args, size, FILE_SHORT, ARGS_SHORT);
	return 0;
}

static __always_inline int enter(__u64 file, __u64 args)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun exec = { file, args };

	if (!wanted_here(current_pid_tgid()))
		return 0;
	if (bpf_map_update_elem(&begun, &thread, &exec, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

/*
 * The arguments of a call that failed, by the list of pointers to them. Returns false if there is more than there was
 * room for. `args_size` is counted in the record: so the verifier sees one state a turn of the loop.
 */
static __always_inline bool read_args(struct exec_event *event, char *room, __u64 list, __u32 room_size, __u32 most,
				      __u32 each)
{
	volatile __s32 *used = &event->args_size;
	__u64 next;
	__s32 size;
	__u32 at;

	*used = 0;
	event->args_left = 0;
	if (!list)
		return true;
	for (__u32 i = 0; i < most; i++) {
		if (bpf_probe_read_user(&next, sizeof(next), (void *)(list + i * 8)) || (at = *used) > room_size - each) {
			event->args_left = ARGS_UNKNOWN;
			return false;
		}
		if (!next)
			return true;
		size = bpf_probe_read_user_str(room + at, each, (void *)next);
		if (size < 0) {
			event->args_left = ARGS_UNKNOWN;
			return false;
		}
		if (!size) { /* an empty one: older kernels (6.1) do not count its NUL */
			room[at] = 0;
			size = 1;
		}
		*used = at + size;
		if (size == each) {
			event->args_left = ARGS_UNKNOWN;
			return false;
		}
	}
	event->args_left = ARGS_UNKNOWN;
	return false;
}

static __always_inline int leave(struct syscall_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *exec = bpf_map_lookup_elem(&begun, &thread);
	struct exec_event *event;
	__u32 ppid, file_room = FILE_SHORT;
	char *text;

	if (!exec)
		return 0;
	ppid = parent_here();
	if (ctx->ret >= 0 || (only_ppid && ppid != only_ppid))
		goto forget;
	event = reserve(sizeof(*event) + FILE_SHORT + ARGS_SHORT);
	if (!event)
		goto forget;
	text = (char *)(event + 1);
	event->file_size = bpf_probe_read_user_str(text, FILE_SHORT, (void *)exec->file);
	if (event->file_size == FILE_SHORT ||
	    !read_args(event, text + FILE_SHORT, exec->args, ARGS_SHORT, MOST_ARGS_SHORT, ARG_SHORT)) {
		bpf_ringbuf_discard(event, 0);
		event = reserve(sizeof(*event) + FILE_LONG + ARGS_LONG);
		if (!event)
			goto forget;
		text = (char *)(event + 1);
		file_room = FILE_LONG;
		event->file_size = bpf_probe_read_user_str(text, FILE_LONG, (void *)exec->file);
		read_args(event, text + FILE_LONG, exec->args, ARGS_LONG, MOST_ARGS_LONG, ARG_LONG);
	}
	if (event->file_size < 0 || event->args_size < 0)
		COUNT_EVENT(unread);
	event->file_room = file_room;
	event->is_script = 0;
	fill(event, ppid, ctx->ret);
	submit(event);
forget:
	bpf_map_delete_elem(&begun, &thread);
	return 0;
}

SEC("tp/syscalls/sys_enter_execve")
int enter_execve(struct syscall_enter *ctx)
{
	return enter(ctx->args[0], ctx->args[1]);
}

SEC("tp/syscalls/sys_enter_execveat")
int enter_execveat(struct syscall_enter *ctx)
{
	return enter(ctx->args[1], ctx->args[2]);
}

SEC("tp/syscalls/sys_exit_execve")
int exit_execve(struct syscall_exit *ctx)
{
	return leave(ctx);
}

SEC("tp/syscalls/sys_exit_execveat")
int exit_execveat(struct syscall_exit *ctx)
{
	return leave(ctx);
}
