/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_THREADSNOOP_H
#define __PYEBPF_THREADSNOOP_H

#include "include/actor.h"

struct thread_event {
	struct actor actor;
	__u64 start_routine; /* where the thread will begin */
	__u64 argument;
};

#endif
