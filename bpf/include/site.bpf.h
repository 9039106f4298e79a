/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which site was hit, and whether the process that hit it is one we trace. */
#ifndef __PYEBPF_SITE_BPF_H
#define __PYEBPF_SITE_BPF_H

#include "site.h"

/* Anchors: clang leaves a type out of the BTF that nothing global refers to. */
const enum site_cookie *unused_site_cookie __attribute__((unused));

/* Attach cookies: Linux 5.15, 7adfc6c9b315 ("bpf: Add bpf_get_attach_cookie() BPF helper"). */
const volatile bool have_cookies = true;

/*
 * The site's cookie. Kernels without cookies run one copy of the program a cookie; core/ writes the cookie over the
 * constant below in each copy.
 */
#define SITE_PLACEHOLDER 0x5eedc00c1e5eed00
static __always_inline __u64 site_cookie(struct pt_regs *ctx)
{
	__u64 cookie;

	if (have_cookies)
		return bpf_get_attach_cookie(ctx);
	asm volatile("%0 = 0x5eedc00c1e5eed00 ll" : "=r"(cookie));
	return cookie;
}

/* The process filter: one process is compared with a constant, several are looked up. 0 and false: every process. */
const volatile __u32 only_tgid = 0;
const volatile bool filter_tgids = false;
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8);
} tgids SEC(".maps");

/* The tracer's own PID namespace when it isn't the initial one: process and thread numbers are seen from there. */
const volatile __u64 pidns_dev = 0;
const volatile __u64 pidns_ino = 0;

/* Process (upper half) and thread number (lower half) as the tracer's /proc shows them. 0: not visible there. */
static __always_inline __u64 current_pid_tgid(void)
{
	struct bpf_pidns_info ns = {};

	if (!pidns_ino)
		return bpf_get_current_pid_tgid();
	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &ns, sizeof(ns)))
		return 0;
	return (__u64)ns.tgid << 32 | ns.pid;
}

/*
 * Links carry a PID filter where the kernel has a right one. It is checked here all the same: before Linux 6.10
 * uprobe_multi matched one thread (46ba0e49b642, "bpf: fix multi-uprobe PID filtering logic"), and a perf event's
 * program ran in every process another tracer had put a breakpoint into.
 */
static __always_inline bool wanted(__u64 pid_tgid)
{
	__u32 tgid = pid_tgid >> 32;

	if (only_tgid)
		return tgid == only_tgid;
	if (filter_tgids)
		return bpf_map_lookup_elem(&tgids, &tgid);
	return true;
}

#endif
