/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPACCEPT_H
#define __PYEBPF_TCPACCEPT_H

#include "include/actor.h"
#include "include/flow.h"

struct accept_event {
	struct actor actor; /* who accepted it */
	struct flow flow;
	__u32 reserved;
};

#endif
