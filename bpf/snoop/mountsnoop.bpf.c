/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* mountsnoop: file systems that are mounted and unmounted, by the old and the new system calls. */
#include "vmlinux.h"
#include "task.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "mountsnoop.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/calls.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const struct mount_event *unused_mount_event __attribute__((unused));
const enum mount_call *unused_mount_call __attribute__((unused));
const enum mount_text *unused_mount_text __attribute__((unused));
const enum mount_limits *unused_mount_limits __attribute__((unused));

/* Commands of fsconfig(2), include/uapi/linux/mount.h: the value is a text. */
#define FSCONFIG_SET_STRING 1
#define FSCONFIG_SET_PATH 3
#define FSCONFIG_SET_PATH_EMPTY 4

/* The number of the argument that is a call's n-th text; -1: it has no such. */
static __always_inline int text_argument(const __u32 call, int n, __u64 command)
{
	switch (call) {
	case CALL_MOUNT: /* source, target, type, data */
		return n == 3 ? 4 : n;
	case CALL_UMOUNT:
	case CALL_FSOPEN:
		return n == 0 ? 0 : -1;
	case CALL_PIVOT_ROOT:
		return n < 2 ? n : -1;
	case CALL_FSCONFIG: /* key, value */
		if (n == 0)
			return 2;
		if (n == 1 && (command == FSCONFIG_SET_STRING || command == FSCONFIG_SET_PATH ||
			       command == FSCONFIG_SET_PATH_EMPTY))
			return 3;
		return -1;
	case CALL_MOVE_MOUNT:
		return n == 0 ? 1 : n == 1 ? 3 : -1;
	case CALL_FSPICK:
	case CALL_OPEN_TREE:
	case CALL_MOUNT_SETATTR:
	case CALL_OPEN_TREE_ATTR:
		return n == 0 ? 1 : -1;
	default:
		return -1;
	}
}

/* Reads all texts, each in `room` bytes. False: one of them was longer. */
static __always_inline bool read_texts(struct mount_event *event, struct begun_call *begun, const __u32 call,
				      const __u32 room)
{
	char *text = (char *)(event + 1);
	bool whole = true;

	for (int n = 0; n < MOUNT_TEXTS; n++, text += room) {
		int argument = text_argument(call, n, (__u32)begun->args[1]);
		const void *from = NULL;

		/* Each index a constant: what the verifier of Linux 5.10 doesn't know it refuses. */
		for (int index = 0; index < 5; index++)
			if (argument == index)
				from = (const void *)begun->args[index];
		event->text_sizes[n] = TEXT_NULL;
		if (!from)
			continue;
		event->text_sizes[n] = bpf_probe_read_user_str(text, room, from);
		whole &= event->text_sizes[n] != room;
	}
	return whole;
}

static __always_inline void call_ends(struct syscall_exit *ctx, struct begun_call *begun, const __u32 call)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *parent;
	struct mount_event *event = reserve(sizeof(*event) + MOUNT_TEXTS * MOUNT_SHORT);
	__u64 attributes = 0, size = 0;

	if (!event)
		return;
	if (!read_texts(event, begun, call, MOUNT_SHORT)) {
		bpf_ringbuf_discard(event, 0);
		event = reserve(sizeof(*event) + MOUNT_TEXTS * MOUNT_LONG);
		if (!event)
			return;
		read_texts(event, begun, call, MOUNT_LONG);
	}
	for (int n = 0; n < MOUNT_TEXTS; n++)
		if (event->text_sizes[n] < 0 && event->text_sizes[n] != TEXT_NULL)
			COUNT_EVENT(unread);
	actor_here(&event->actor, current_pid_tgid());
	event->duration = event->actor.time - begun->time;
	__builtin_memcpy(event->args, begun->args, sizeof(event->args));
	__builtin_memset(event->attributes, 0, sizeof(event->attributes));
	event->result = ctx->ret;
	event->call = call;
	event->mount_namespace = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	parent = BPF_CORE_READ(task, real_parent);
	event->parent = tgid_of(parent);
	__builtin_memset(event->parent_comm, 0, sizeof(event->parent_comm));
	BPF_CORE_READ_INTO(&event->parent_comm, parent, comm);
	if (call == CALL_MOUNT_SETATTR || call == CALL_OPEN_TREE_ATTR) {
		attributes = begun->args[3];
		size = begun->args[4];
	}
	event->has_attributes = size >= sizeof(event->attributes) &&
		!bpf_probe_read_user(event->attributes, sizeof(event->attributes), (void *)attributes);
	submit(event);
}

WATCH_CALL(mount, 5, CALL_MOUNT)
WATCH_CALL(umount, 2, CALL_UMOUNT)
WATCH_CALL(pivot_root, 2, CALL_PIVOT_ROOT)
WATCH_CALL(fsopen, 2, CALL_FSOPEN)
WATCH_CALL(fspick, 3, CALL_FSPICK)
WATCH_CALL(fsconfig, 5, CALL_FSCONFIG)
WATCH_CALL(fsmount, 3, CALL_FSMOUNT)
WATCH_CALL(move_mount, 5, CALL_MOVE_MOUNT)
WATCH_CALL(open_tree, 3, CALL_OPEN_TREE)
WATCH_CALL(mount_setattr, 5, CALL_MOUNT_SETATTR)
WATCH_CALL(open_tree_attr, 5, CALL_OPEN_TREE_ATTR)
