/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_ACTOR_H
#define __PYEBPF_ACTOR_H

/* Who did something, and when. A record of something that happened begins with it. */
struct actor {
	__u64 time; /* ns, CLOCK_MONOTONIC */
	__u32 tgid;
	__u32 tid;
	__u32 uid; /* real user ID, as the initial user namespace sees it */
	__u32 reserved;
	char comm[16];
};

/* What became of events that were seen. */
struct event_tally {
	__u64 sent;      /* records handed to the ring buffer */
	__u64 dropped;   /* records for which the ring buffer had no room */
	__u64 untracked; /* begun events that a full table could not remember: their ends are not shown */
	__u64 unread;    /* texts or values in the process's memory that could not be read */
};

#endif
