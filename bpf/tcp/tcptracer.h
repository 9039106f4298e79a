/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPTRACER_H
#define __PYEBPF_TCPTRACER_H

#include "include/actor.h"
#include "include/flow.h"

enum tracer_what {
	TRACER_CONNECTED = 0,
	TRACER_ACCEPTED,
	TRACER_CLOSED,
	TRACER_ENDED, /* by the peer's reset, or by the kernel: nobody here closed it yet */
};

struct tracer_event {
	struct actor actor; /* who connected, accepted, closed; TRACER_ENDED: whose it is (tgid 0: not known) */
	struct flow flow;
	__u16 what;
	__u16 error; /* TRACER_ENDED: an errno */
};

#endif
