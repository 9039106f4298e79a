/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_CONNECT_H
#define __PYEBPF_CONNECT_H

#include "actor.h"
#include "flow.h"

enum connect_error {
	CONNECT_GIVEN_UP = 0xffff, /* by the process, before there was an answer; no errno is so large */
};

/* How an attempt to connect went. */
struct connect_event {
	struct actor actor; /* who called connect(2); the time is that of the answer */
	struct flow flow;
	__u32 error;    /* 0: connected; else an errno, or CONNECT_GIVEN_UP */
	__u64 duration; /* ns from connect(2) to the answer */
};

#endif
