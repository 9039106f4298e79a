/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_FUNCLATENCY_H
#define __PYEBPF_FUNCLATENCY_H

#include "include/buckets.h"

struct latency {
	__u64 total; /* ns */
	__u64 max;   /* ns; two CPUs racing may keep the smaller, the buckets never do */
	__u64 buckets[BUCKET_ROOM];
};

#endif
