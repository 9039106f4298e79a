/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPSTATES_H
#define __PYEBPF_TCPSTATES_H

#include "include/actor.h"
#include "include/flow.h"

/* A socket has changed its state. */
struct state_event {
	struct actor actor; /* its owner; tgid 0: not known */
	struct flow flow;
	__u32 current_tgid; /* who was running: whoever an interrupt came to, if it was one */
	char current_comm[16];
	__u64 sk;    /* address of the struct sock */
	__u64 since; /* ns, CLOCK_MONOTONIC: when the old state began; 0: not seen */
	__u32 old;
	__u32 new;
	__u32 forgotten; /* the table of states was full at some time: "not seen" need not mean "before tracing" */
	__u32 reserved;
};

#endif
