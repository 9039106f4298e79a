/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPLIFE_H
#define __PYEBPF_TCPLIFE_H

#include "include/actor.h"
#include "include/flow.h"

/* A connection has ended. */
struct life_event {
	struct actor actor; /* its owner; tgid 0: not known */
	struct flow flow;
	__u32 forgotten; /* the table of lives was full at some time: one without a beginning need not be an old one */
	__u64 begun;     /* ns, CLOCK_MONOTONIC: when it was established, or else begun; 0: not seen */
	__u64 sent;      /* bytes that the peer has acknowledged */
	__u64 received;  /* bytes that we have acknowledged */
};

#endif
