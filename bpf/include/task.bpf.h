/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Facts about a task that need not be the current one. Include after vmlinux.h, task.h and bpf_core_read.h. */
#ifndef __PYEBPF_TASK_BPF_H
#define __PYEBPF_TASK_BPF_H

#define MOST_PID_NAMESPACES 33 /* MAX_PID_NS_LEVEL of linux/pid_namespace.h, and the initial one */

/* A task's thread number as the tracer's /proc shows it; 0: not visible there. */
static __always_inline __u32 tid_of(struct task_struct *task)
{
	struct upid upid = {};
	struct pid *pid;
	__u32 level, deepest;

	if (!pidns_ino)
		return BPF_CORE_READ(task, pid);
	pid = BPF_CORE_READ(task, thread_pid);
	if (!pid)
		return 0;
	/* It has a number in its own namespace and each above. How deep ours lies, /proc doesn't tell. */
	deepest = BPF_CORE_READ(pid, level);
	for (level = 0; level < MOST_PID_NAMESPACES && level <= deepest; level++) {
		bpf_probe_read_kernel(&upid, sizeof(upid),
				      (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * sizeof(upid));
		if (BPF_CORE_READ(upid.ns, ns.inum) == pidns_ino)
			return upid.nr;
	}
	return 0;
}

/* A task's process number as the tracer's /proc shows it; 0: not visible there. */
static __always_inline __u32 tgid_of(struct task_struct *task)
{
	return pidns_ino ? tid_of(BPF_CORE_READ(task, group_leader)) : BPF_CORE_READ(task, tgid);
}

/* The kernel's socket behind one of the current process's file descriptors; NULL: it isn't one. */
static __always_inline void *private_data_of(struct file *file)
{
	/* S_ISSOCK; what is opened with O_PATH has no private data. */
	if ((BPF_CORE_READ(file, f_inode, i_mode) & 0170000) != 0140000)
		return NULL;
	return BPF_CORE_READ(file, private_data);
}

static __always_inline struct file *file_of(struct task_struct *task, __s64 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (fd < 0 || fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

#endif
