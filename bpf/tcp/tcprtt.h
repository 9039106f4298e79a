/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPRTT_H
#define __PYEBPF_TCPRTT_H

#include "include/buckets.h"

/* Whose histogram: an address's, or everybody's (all zero). */
struct rtt_key {
	__u8 address[16]; /* as in struct flow */
	__u32 family;
};

struct rtt {
	__u64 total; /* us */
	__u64 buckets[BUCKET_ROOM];
};

enum rtt_by { BY_NOTHING, BY_LOCAL, BY_REMOTE };

#endif
