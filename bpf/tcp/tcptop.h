/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPTOP_H
#define __PYEBPF_TCPTOP_H

#include "include/flow.h"

struct use {
	struct flow flow;
	__u32 tgid;
};

struct traffic {
	__u64 sent;
	__u64 received;
	char comm[16]; /* of the process, not of the thread */
};

#endif
