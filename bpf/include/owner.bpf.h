/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The table of sockets and their owners. Include after events.bpf.h, task.bpf.h and sock.h. */
#ifndef __PYEBPF_OWNER_BPF_H
#define __PYEBPF_OWNER_BPF_H

#include "owner.h"
#include "socket.bpf.h"

/*
 * By the address of the struct sock, until the socket is destroyed. Not storage that goes with the socket
 * (BPF_MAP_TYPE_SK_STORAGE): that takes a pointer the verifier trusts, which the end of accept() doesn't have.
 *
 * All memory is taken when it is made (2 ms, 7 MB): elements allocated when needed save that, but before Linux 6.1 a
 * tracing program must not ask for any, and later it is refused some in a burst.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct owner);
} owners SEC(".maps");

const volatile __u64 only_cgroup = 0; /* its ID, for tasks that aren't the current one */

static __always_inline struct owner *owner_of(struct sock *sk)
{
	__u64 key = (__u64)sk;

	return bpf_map_lookup_elem(&owners, &key);
}

/* May a socket without an owner be shown? Not where one was asked for. */
static __always_inline bool owner_wanted(const struct owner *owner)
{
	if (owner && owner->tgid)
		return owner->wanted;
	return !only_tgid && !filter_tgids && !filter_uid && !filter_cgroup;
}

static __always_inline void owner_put(struct sock *sk, const struct owner *owner, __u64 flags)
{
	__u64 key = (__u64)sk;
	int error = bpf_map_update_elem(&owners, &key, owner, flags); /* before Linux 6.4 not sign-extended to a long */

	if (error && error != -17) /* EEXIST: BPF_NOEXIST was asked for */
		COUNT_EVENT(untracked);
}

/* The current process is the owner from now on, as it has connected or accepted the socket. */
static __always_inline void owner_here_as(struct sock *sk, enum owner_role role)
{
	__u64 pid_tgid = current_pid_tgid();
	struct owner owner = {
		.since = bpf_ktime_get_ns(),
		.tgid = pid_tgid >> 32,
		.tid = (__u32)pid_tgid,
		.uid = (__u32)bpf_get_current_uid_gid(),
		.wanted = wanted_here(pid_tgid),
		.role = role,
	};

	bpf_get_current_comm(owner.comm, sizeof(owner.comm));
	owner_put(sk, &owner, BPF_ANY);
}

static __always_inline void owner_here(struct sock *sk)
{
	owner_here_as(sk, OWNER_OTHER);
}

/* Call it when the socket is destroyed (raw_tp/tcp_destroy_sock). */
static __always_inline void owner_forget(struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&owners, &key);
}

static __always_inline bool in_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	__u64 id;
	int level;

	if (BPF_CORE_READ(cgroup, kn, id) == only_cgroup)
		return true;
	for (level = 0; level < 64; level++) {
		if (level >= BPF_CORE_READ(cgroup, level))
			return false;
		if (bpf_core_field_exists(((struct cgroup___since_6_1 *)0)->ancestors)) {
			struct cgroup___since_6_1 *self = (void *)cgroup;
			struct cgroup *ancestor = NULL;

			bpf_core_read(&ancestor, sizeof(ancestor), &self->ancestors[level]);
			id = BPF_CORE_READ(ancestor, kn, id);
		} else {
			struct cgroup___before_6_1 *self = (void *)cgroup;

			bpf_core_read(&id, sizeof(id), &self->ancestor_ids[level]);
		}
		if (id == only_cgroup)
			return true;
	}
	return false;
}

/* Is a task that isn't the current one to be shown? scoped: by PID namespace and cgroup too. */
static __always_inline bool task_wanted(struct task_struct *task, __u32 tgid, __u32 uid, bool scoped)
{
	if (!wanted((__u64)tgid << 32) || !tgid || tgid == tracer_tgid)
		return false;
	if (filter_uid && uid != only_uid)
		return false;
	return !scoped || !filter_cgroup || in_cgroup(task);
}

static __always_inline int prime(struct bpf_iter__task_file *ctx, bool scoped)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct owner owner = {};
	struct sock *sk;

	if (!task || !file)
		return 0;
	sk = tcp_socket_of(file);
	if (!sk)
		return 0;
	owner.tgid = scoped ? tgid_of(task) : BPF_CORE_READ(task, tgid);
	owner.tid = owner.tgid;
	owner.uid = BPF_CORE_READ(task, real_cred, uid.val);
	owner.wanted = task_wanted(task, owner.tgid, owner.uid, scoped);
	BPF_CORE_READ_STR_INTO(&owner.comm, task, group_leader, comm);
	owner_put(sk, &owner, BPF_NOEXIST); /* of several holders the first; who just got it knows better */
	return 0;
}

/*
 * Run once, after the others are attached: enters the sockets that are open already. Two programs, because libbpf looks
 * up each kernel structure of a program it loads, and the kernel checks it: half is for PID namespaces and cgroups only.
 */
SEC("raw_tp/bpf_iter_task_file")
int prime_owners(struct bpf_iter__task_file *ctx)
{
	return prime(ctx, false);
}

SEC("raw_tp/bpf_iter_task_file")
int prime_owners_scoped(struct bpf_iter__task_file *ctx)
{
	return prime(ctx, true);
}

#endif
