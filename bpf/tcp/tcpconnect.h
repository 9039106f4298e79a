/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPCONNECT_H
#define __PYEBPF_TCPCONNECT_H

#include "include/actor.h"
#include "include/flow.h"

struct connect_event {
	struct actor actor;
	struct flow flow;
	__u32 error; /* 0: connected; else an errno */
	__u32 reserved;
	__u64 duration; /* ns from connect() to the answer */
};

#endif
