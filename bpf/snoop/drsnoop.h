/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_DRSNOOP_H
#define __PYEBPF_DRSNOOP_H

#include "include/actor.h"

enum reclaim_cause { CAUSE_SYSTEM, CAUSE_CGROUP };

struct reclaim_event {
	struct actor actor;
	__u64 duration; /* ns */
	__u64 pages;
	__u32 cause; /* enum reclaim_cause */
	__u32 reserved;
};

#endif
