/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_OWNER_H
#define __PYEBPF_OWNER_H

/*
 * Whose socket it is: who connected or accepted it, or held it when tracing began. Most of what happens to a connection
 * happens in an interrupt, where the current process is whoever was running.
 */
enum owner_role {
	OWNER_HOLDS = 0, /* what it did isn't known: it had the socket when tracing began */
	OWNER_CONNECTS,
	OWNER_ACCEPTED,
	OWNER_OTHER,
};

struct owner {
	__u64 since; /* ns, CLOCK_MONOTONIC: when it got this owner; 0: it was open before tracing began */
	__u32 tgid;  /* 0: not known */
	__u32 tid;   /* who connected, accepted or listens; of those before tracing the process's first */
	__u32 uid;
	__u16 wanted; /* the process is one to show */
	__u16 role;   /* enum owner_role */
	char comm[16];
};

#endif
