/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_LOG2_BPF_H
#define __PYEBPF_LOG2_BPF_H

static __always_inline __u32 floor_log2(__u64 v)
{
	__u32 shift, r;

	r = (v > 0xFFFFFFFF) << 5; v >>= r;
	shift = (v > 0xFFFF) << 4; v >>= shift; r |= shift;
	shift = (v > 0xFF) << 3; v >>= shift; r |= shift;
	shift = (v > 0xF) << 2; v >>= shift; r |= shift;
	shift = (v > 0x3) << 1; v >>= shift; r |= shift;
	return r | (v >> 1);
}

#endif
