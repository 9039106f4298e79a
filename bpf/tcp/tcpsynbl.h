/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPSYNBL_H
#define __PYEBPF_TCPSYNBL_H

#include "include/buckets.h"
#include "include/flow.h"

/* How full queues with this limit were when another connection came. */
struct backlog {
	__u64 total; /* the sum of lengths */
	__u64 buckets[BUCKET_ROOM];
};

/* A socket that listens, or did. */
struct listener {
	struct flow flow;
	__u32 most;   /* connections that may wait */
	__u32 before; /* what it had turned away when it was first seen, */
	__u32 last;   /* and when it was last looked at */
	__u64 earlier; /* turned away by others that were at this address before */
};

#endif
