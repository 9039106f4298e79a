/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_OPENSNOOP_H
#define __PYEBPF_OPENSNOOP_H

#include "include/actor.h"

/* The path follows, `path_size` bytes. */
struct open_event {
	struct actor actor;
	__s32 result; /* a file descriptor, or -errno */
	__u32 flags;  /* open(2)'s */
	__u32 mode;
	__s32 path_size; /* with the NUL; -errno: it could not be read */
};

#endif
