/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPCONG_H
#define __PYEBPF_TCPCONG_H

#include "include/actor.h"
#include "include/buckets.h"
#include "include/flow.h"

enum cong_sizes { CA_STATES = 5 }; /* enum tcp_ca_state, include/uapi/linux/tcp.h: Open, Disorder, CWR, Recovery, Loss */

/* What a connection did, by its flow. */
struct congestion {
	__u64 since; /* ns, CLOCK_MONOTONIC: when it came into its present state; 0: it is closed */
	__u64 first; /* the first change of a connection older than the tracing; 0: its beginning was seen */
	__u64 durations[CA_STATES]; /* ns; that of `old` lacks the time before `first` */
	__u32 changes;
	__u8 state;
	__u8 old; /* the state before `first` */
	__u16 reserved;
	__u32 tgid; /* the owner; 0: not known */
	char comm[16];
};

/* How long states lasted, those that have ended. */
struct lasted {
	__u64 total; /* us */
	__u64 buckets[BUCKET_ROOM];
};

#endif
