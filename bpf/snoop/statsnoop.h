/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_STATSNOOP_H
#define __PYEBPF_STATSNOOP_H

#include "include/actor.h"

/* In this order in statsnoop.py. */
enum stat_call { STAT_STAT, STAT_LSTAT, STAT_FSTATAT, STAT_STATX, STAT_STATFS };
const enum stat_call *unused_stat_call __attribute__((unused));

/* The path follows, `path_size` bytes. */
struct stat_event {
	struct actor actor;
	__s32 result; /* 0, or -errno */
	__u32 call;   /* enum stat_call */
	__s32 dirfd;
	__s32 path_size; /* with the NUL; -errno: it could not be read */
};

#endif
