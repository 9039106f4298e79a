/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* filelife: files that are deleted, of those whose creation was seen. */
#include "vmlinux.h"
#include "task.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "filelife.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/path.bpf.h"

const volatile bool full_paths = false; /* tell where relative paths begin */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct file_event *unused_file_event __attribute__((unused)); /* see the anchor in site.bpf.h */

#define FMODE_CREATED 0x100000 /* include/linux/fs.h: the open made the file. The same from 4.19 to 7.2. */
#define O_CREAT 0100
#define S_IFMT 0170000
#define S_IFDIR 0040000

/* A file by its number: its inode may leave memory and come back elsewhere. */
struct file_id {
	__u64 inode;
	__u64 device;
};

struct birth {
	__u64 time;
	__u32 generation; /* a number given to another file has another one */
	__u32 tgid;
	char comm[16];
};

/* LRU: files that stay push out older ones, never those that are about to be deleted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct file_id);
	__type(value, struct birth);
} births SEC(".maps");

/* Births entered and taken out. What is in neither was evicted: Python looks how many are there. */
__u64 births_kept = 0, births_ended = 0;

/* Threads in open(2) with O_CREAT. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, __u8);
} creating SEC(".maps");

/*
 * Threads in unlink(2) or rename(2), and the files whose names were in play: with rename two, on a stacked file system
 * each of them twice.
 */
enum { MOST_FILES = 4 };

struct deletion {
	__u64 path;
	__s32 dirfd;
	__u32 files;
	__u32 rename;
	__u32 reserved;
	struct inode *inodes[MOST_FILES];
	struct file_id ids[MOST_FILES];
	struct birth births[MOST_FILES]; /* time 0: it wasn't seen. As it is now: the number may be another file's soon. */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct deletion);
} deleting SEC(".maps");

static __always_inline int enter_create(__u32 flags)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u8 yes = 1;

	if (flags & O_CREAT && bpf_map_update_elem(&creating, &thread, &yes, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

static __always_inline struct file_id id_of(struct inode *inode)
{
	struct file_id id = { BPF_CORE_READ(inode, i_ino), BPF_CORE_READ(inode, i_sb, s_dev) };

	return id;
}

static __always_inline int leave_create(struct syscall_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct birth birth = {};
	struct file_id id;
	struct file *file;
	struct inode *inode;

	if (bpf_map_delete_elem(&creating, &thread) || ctx->ret < 0)
		return 0;
	file = file_of((void *)bpf_get_current_task(), ctx->ret);
	if (!file || !(BPF_CORE_READ(file, f_mode) & FMODE_CREATED))
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	id = id_of(inode);
	birth.time = bpf_ktime_get_ns();
	birth.generation = BPF_CORE_READ(inode, i_generation);
	birth.tgid = current_pid_tgid() >> 32;
	bpf_get_current_comm(birth.comm, sizeof(birth.comm));
	if (!bpf_map_update_elem(&births, &id, &birth, BPF_NOEXIST))
		__sync_fetch_and_add(&births_kept, 1);
	else if (bpf_map_update_elem(&births, &id, &birth, BPF_EXIST)) /* whose end wasn't seen */
		COUNT_EVENT(untracked);
	return 0;
}

static __always_inline int enter_delete(__s32 dirfd, __u64 path, bool rename)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct deletion deletion = { .path = path, .dirfd = dirfd, .rename = rename };

	if (wanted_here(current_pid_tgid()) && bpf_map_update_elem(&deleting, &thread, &deletion, BPF_ANY))
		COUNT_EVENT(untracked);
	return 0;
}

/* A file's name is in play in the call that this thread is in. */
static __always_inline void in_play(struct inode *inode)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct deletion *deletion = bpf_map_lookup_elem(&deleting, &thread);
	struct birth *birth;
	struct file_id id;
	__u32 last;

	if (!deletion || !inode || (BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFDIR)
		return;
	for (__u32 i = 0; i < MOST_FILES; i++) {
		if (i >= deletion->files)
			break;
		if (deletion->inodes[i] == inode)
			return;
	}
	last = deletion->files;
	if (last >= MOST_FILES)
		return;
	id = id_of(inode);
	deletion->inodes[last] = inode;
	deletion->ids[last] = id;
	birth = bpf_map_lookup_elem(&births, &id);
	if (birth && birth->generation == BPF_CORE_READ(inode, i_generation))
		deletion->births[last] = *birth;
	deletion->files = last + 1;
}

/* Is it gone? Its inode may be, too; then its memory tells of another file, or still of this one. */
static __always_inline bool has_ended(struct inode *inode, struct file_id *id, __u32 generation)
{
	return BPF_CORE_READ(inode, i_ino) != id->inode || BPF_CORE_READ(inode, i_nlink) == 0 ||
	       BPF_CORE_READ(inode, i_generation) != generation;
}

static __always_inline void show(struct deletion *deletion, struct birth *birth, struct file_id *id)
{
	struct file_event *event;
	__s32 size = 0;

	if (full_paths)
		event = reserve_with_place(sizeof(*event), __builtin_offsetof(struct file_event, names_size),
					   (void *)deletion->path, deletion->dirfd, false, &size);
	else
		event = reserve_with_text(sizeof(*event), (void *)deletion->path, &size);
	if (!event)
		return;
	actor_here(&event->actor, current_pid_tgid());
	event->age = event->actor.time - birth->time;
	event->inode = id->inode;
	event->device = id->device;
	event->made_by = birth->tgid;
	__builtin_memcpy(event->made_comm, birth->comm, sizeof(event->made_comm));
	event->path_size = size;
	if (!full_paths)
		event->names_size = 0;
	event->replaced = deletion->rename;
	event->reserved = 0;
	submit(event);
}

static __always_inline int leave_delete(struct syscall_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct deletion *deletion = bpf_map_lookup_elem(&deleting, &thread);
	struct file_id id;
	struct birth *birth;

	if (!deletion)
		return 0;
	for (__u32 i = 0; i < MOST_FILES && ctx->ret == 0; i++) {
		if (i >= deletion->files)
			break;
		id = deletion->ids[i];
		if (!deletion->births[i].time || !has_ended(deletion->inodes[i], &id, deletion->births[i].generation))
			continue;
		show(deletion, &deletion->births[i], &id);
		birth = bpf_map_lookup_elem(&births, &id);
		if (birth && birth->generation == deletion->births[i].generation && !bpf_map_delete_elem(&births, &id))
			__sync_fetch_and_add(&births_ended, 1);
		break; /* one file ends, at most */
	}
	bpf_map_delete_elem(&deleting, &thread);
	return 0;
}

/* Which file a name stands for is seen where the kernel asks whether it may be taken away ... */
SEC("fentry/security_inode_unlink")
int BPF_PROG(on_unlink, struct inode *dir, struct dentry *dentry)
{
	in_play(BPF_CORE_READ(dentry, d_inode));
	return 0;
}

SEC("fentry/security_inode_rename")
int BPF_PROG(on_rename, struct inode *dir, struct dentry *dentry, struct inode *to_dir, struct dentry *to)
{
	in_play(BPF_CORE_READ(to, d_inode));
	return 0;
}

/* ... or where the file system notes the time of the change: since Linux 6.13. */
SEC("raw_tp/inode_set_ctime_to_ts")
int BPF_PROG(on_time_set, struct inode *inode)
{
	in_play(inode);
	return 0;
}

SEC("raw_tp/ctime_ns_xchg")
int BPF_PROG(on_time_changed, struct inode *inode)
{
	in_play(inode);
	return 0;
}

SEC("raw_tp/ctime_xchg_skip")
int BPF_PROG(on_time_kept, struct inode *inode)
{
	in_play(inode);
	return 0;
}

SEC("kprobe/security_inode_unlink")
int BPF_KPROBE(at_unlink, struct inode *dir, struct dentry *dentry)
{
	in_play(BPF_CORE_READ(dentry, d_inode));
	return 0;
}

SEC("kprobe/security_inode_rename")
int BPF_KPROBE(at_rename, struct inode *dir, struct dentry *dentry, struct inode *to_dir, struct dentry *to)
{
	in_play(BPF_CORE_READ(to, d_inode));
	return 0;
}

SEC("tp/syscalls/sys_enter_open") /* not on arm64 */
int enter_open(struct syscall_enter *ctx)
{
	return enter_create(ctx->args[1]);
}

SEC("tp/syscalls/sys_exit_open")
int exit_open(struct syscall_exit *ctx)
{
	return leave_create(ctx);
}

SEC("tp/syscalls/sys_enter_creat") /* not on arm64 */
int enter_creat(struct syscall_enter *ctx)
{
	return enter_create(O_CREAT);
}

SEC("tp/syscalls/sys_exit_creat")
int exit_creat(struct syscall_exit *ctx)
{
	return leave_create(ctx);
}

SEC("tp/syscalls/sys_enter_openat")
int enter_openat(struct syscall_enter *ctx)
{
	return enter_create(ctx->args[2]);
}

SEC("tp/syscalls/sys_exit_openat")
int exit_openat(struct syscall_exit *ctx)
{
	return leave_create(ctx);
}

SEC("tp/syscalls/sys_enter_openat2")
int enter_openat2(struct syscall_enter *ctx)
{
	/* Its flags may not be in memory yet: so all are looked at when they return. */
	return enter_create(O_CREAT);
}

SEC("tp/syscalls/sys_exit_openat2")
int exit_openat2(struct syscall_exit *ctx)
{
	return leave_create(ctx);
}

SEC("tp/syscalls/sys_enter_unlink") /* not on arm64 */
int enter_unlink(struct syscall_enter *ctx)
{
	return enter_delete(AT_FDCWD, ctx->args[0], false);
}

SEC("tp/syscalls/sys_exit_unlink")
int exit_unlink(struct syscall_exit *ctx)
{
	return leave_delete(ctx);
}

SEC("tp/syscalls/sys_enter_unlinkat")
int enter_unlinkat(struct syscall_enter *ctx)
{
	return enter_delete(ctx->args[0], ctx->args[1], false);
}

SEC("tp/syscalls/sys_exit_unlinkat")
int exit_unlinkat(struct syscall_exit *ctx)
{
	return leave_delete(ctx);
}

SEC("tp/syscalls/sys_enter_rename") /* not on arm64 */
int enter_rename(struct syscall_enter *ctx)
{
	return enter_delete(AT_FDCWD, ctx->args[1], true);
}

SEC("tp/syscalls/sys_exit_rename")
int exit_rename(struct syscall_exit *ctx)
{
	return leave_delete(ctx);
}

SEC("tp/syscalls/sys_enter_renameat")
int enter_renameat(struct syscall_enter *ctx)
{
	return enter_delete(ctx->args[2], ctx->args[3], true);
}

SEC("tp/syscalls/sys_exit_renameat")
int exit_renameat(struct syscall_exit *ctx)
{
	return leave_delete(ctx);
}

SEC("tp/syscalls/sys_enter_renameat2")
int enter_renameat2(struct syscall_enter *ctx)
{
	return enter_delete(ctx->args[2], ctx->args[3], true);
}

SEC("tp/syscalls/sys_exit_renameat2")
int exit_renameat2(struct syscall_exit *ctx)
{
	return leave_delete(ctx);
}
