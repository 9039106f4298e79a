/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_OPENSNOOP_H
#define __PYEBPF_OPENSNOOP_H

#include "include/actor.h"

/* Both flags and mode: openat2(2)'s could not be read. */
enum open_flags { FLAGS_UNREAD = -1 };
const enum open_flags *unused_open_flags __attribute__((unused));

/* The path follows, `path_size` bytes; from full_exit_…, room for the directory it is relative to. */
struct open_event {
	struct actor actor;
	__s32 result; /* a file descriptor, or -errno */
	__u32 flags;  /* open(2)'s */
	__u32 mode;
	__s32 path_size; /* with the NUL; -errno: it could not be read */
	__u32 names_size; /* of the directory: see path.bpf.h */
	__u32 reserved;
};

#endif
