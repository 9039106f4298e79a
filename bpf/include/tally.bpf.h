/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TALLY_BPF_H
#define __PYEBPF_TALLY_BPF_H

#include "tally.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

/* Atomic although per CPU: a uprobe's program can be preempted by another thread's on the same CPU. */
#define TALLY(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct tally *tally = bpf_map_lookup_elem(&tallies, &zero);                                            \
		if (tally)                                                                                             \
			__sync_fetch_and_add(&tally->field, 1);                                                        \
	} while (0)

#endif
