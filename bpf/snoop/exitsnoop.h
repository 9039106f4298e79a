/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_EXITSNOOP_H
#define __PYEBPF_EXITSNOOP_H

#include "include/actor.h"

struct exit_event {
	struct actor actor;
	__u64 age; /* ns */
	__u32 ppid;
	__u32 code; /* as wait(2) has it */
};

#endif
