/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_SHMSNOOP_H
#define __PYEBPF_SHMSNOOP_H

#include "include/actor.h"

enum shm_call { CALL_SHMGET, CALL_SHMAT, CALL_SHMDT, CALL_SHMCTL };

struct shm_event {
	struct actor actor;
	__u64 args[3]; /* as the process gave them */
	__s64 result;  /* an identifier, an address, 0, or -errno */
	__u32 call;    /* enum shm_call */
	__u32 reserved;
};

#endif
