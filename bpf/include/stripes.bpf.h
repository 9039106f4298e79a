/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rows of an array, repeated in stripes so that CPUs don't share cache lines (pyebpf/tools/stripes.py sets it up). */
#ifndef __PYEBPF_STRIPES_BPF_H
#define __PYEBPF_STRIPES_BPF_H

const volatile __u32 stripe_mask = 0;
const volatile __u32 stripe_length = 1;

/* Where this CPU keeps a row: CPU n uses stripe n & stripe_mask. */
static __always_inline __u32 striped(__u32 row)
{
	return (bpf_get_smp_processor_id() & stripe_mask) * stripe_length + row;
}

#endif
