/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_SYNCSNOOP_H
#define __PYEBPF_SYNCSNOOP_H

#include "include/actor.h"

enum sync_call { CALL_SYNC, CALL_FSYNC, CALL_FDATASYNC, CALL_SYNCFS, CALL_MSYNC, CALL_SYNC_FILE_RANGE };

struct sync_event {
	struct actor actor;
	__u64 duration; /* ns */
	__s32 result;   /* 0 or -errno */
	__s32 fd;       /* of the calls that are given one */
	__u32 call;     /* enum sync_call */
	__u32 reserved;
};

#endif
