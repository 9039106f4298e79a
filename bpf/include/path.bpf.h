/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a relative path begins. Include after events.bpf.h, task.bpf.h and bpf_core_read.h. */
#ifndef __PYEBPF_PATH_BPF_H
#define __PYEBPF_PATH_BPF_H

#define AT_FDCWD -100

/*
 * A directory is told as the names from it up to the process's root directory (or to the top of the mount namespace, if
 * it lies outside), each with its NUL: its own name first. Such records have room for a text and, behind it, for names.
 */
enum place_sizes {
	PLACE_SHORT = 512,
	PLACE_LONG = 4096,
	PLACE_NAMES = 64,    /* the most there are; mount points count as well */
	PLACE_CUT = 1 << 16, /* flag beside the size: there are more */
};
const enum place_sizes *unused_place_sizes __attribute__((unused));

#define MOST_NAME 256 /* NAME_MAX and a NUL */

/*
 * `most` + MOST_NAME bytes are at `room`. How much of them is used is counted in the record: so the verifier sees one
 * state a turn of the loop, whichever way it went.
 */
static __always_inline void names_up(struct path from, char *room, __u32 most, volatile __u32 *used)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry), *parent;
	struct vfsmount *top = BPF_CORE_READ(task, fs, root.mnt);
	struct mount *mount, *above;
	__u32 at;
	__s32 size;

	*used = 0;
	for (int i = 0; i < PLACE_NAMES; i++) {
		if (from.dentry == root && from.mnt == top)
			return;
		if (from.dentry == BPF_CORE_READ(from.mnt, mnt_root)) {
			mount = (void *)from.mnt - bpf_core_field_offset(struct mount, mnt);
			above = BPF_CORE_READ(mount, mnt_parent);
			if (above == mount)
				return;
			from.dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			from.mnt = (void *)above + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		parent = BPF_CORE_READ(from.dentry, d_parent);
		if (parent == from.dentry)
			return;
		at = *used;
		if (at > most)
			break;
		size = bpf_probe_read_kernel_str(room + at, MOST_NAME, BPF_CORE_READ(from.dentry, d_name.name));
		if (size <= 0)
			break;
		*used = at + size;
		from.dentry = parent;
	}
	*used |= PLACE_CUT;
}

/* The directory that a path is relative to: `dirfd`'s, or the working directory. */
static __always_inline struct path directory_of(__s32 dirfd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct path path = {};

	if (dirfd == AT_FDCWD) {
		path.dentry = BPF_CORE_READ(task, fs, pwd.dentry);
		path.mnt = BPF_CORE_READ(task, fs, pwd.mnt);
	} else {
		struct file *file = file_of(task, dirfd);

		path.dentry = BPF_CORE_READ(file, f_path.dentry);
		path.mnt = BPF_CORE_READ(file, f_path.mnt);
	}
	return path;
}

/*
 * A record with room for a text and for names: `head` bytes, then TEXT_SHORT and PLACE_SHORT or, for the few that need
 * it, TEXT_LONG and PLACE_LONG bytes. `size` as in reserve_with_text(); `used_at`: where in the head the names' size
 * is. The names are those above `dirfd`, if the text is a relative path; `always`: whatever it is.
 */
static __always_inline void *reserve_with_place(__u64 head, __u64 used_at, const void *text, __s32 dirfd, bool always,
						__s32 *size)
{
	struct path from = directory_of(dirfd);
	char *record = reserve(head + TEXT_SHORT + PLACE_SHORT);
	bool is_long = false;

	if (!record)
		return NULL;
	*(__u32 *)(record + used_at) = 0;
	*size = bpf_probe_read_user_str(record + head, TEXT_SHORT, text);
	if (*size == TEXT_SHORT)
		is_long = true;
	else if (*size > 0 && from.dentry && (always || record[head] != '/'))
		names_up(from, record + head + TEXT_SHORT, PLACE_SHORT - MOST_NAME, (void *)(record + used_at));
	if (is_long || *(volatile __u32 *)(record + used_at) & PLACE_CUT) {
		bpf_ringbuf_discard(record, 0);
		record = reserve(head + TEXT_LONG + PLACE_LONG);
		if (!record)
			return NULL;
		*(__u32 *)(record + used_at) = 0;
		*size = bpf_probe_read_user_str(record + head, TEXT_LONG, text);
		if (*size > 0 && from.dentry && (always || record[head] != '/'))
			names_up(from, record + head + TEXT_LONG, PLACE_LONG - MOST_NAME, (void *)(record + used_at));
	}
	if (*size < 0)
		COUNT_EVENT(unread);
	return record;
}

#endif
