/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_EXECSNOOP_H
#define __PYEBPF_EXECSNOOP_H

#include "include/actor.h"

/*
 * The file's path follows, in room for `file_room` bytes, then the arguments, each with its NUL.
 */
struct exec_event {
	struct actor actor;
	__u32 ppid;
	__s32 result; /* 0, or -errno */
	__s32 file_size; /* with the NUL; -errno: it could not be read */
	__s32 args_size; /* of all that was read; -errno: nothing could be */
	__u32 args_left; /* bytes of arguments beyond that; ARGS_UNKNOWN: nobody knows how many */
	__u32 file_room;
	__u32 is_script; /* it is run by an interpreter */
	__u32 reserved;
};

enum exec_sizes {
	FILE_SHORT = 128,
	FILE_LONG = 4096 + 8, /* more than PATH_MAX, which so counts as whole */
	ARGS_SHORT = 512,
	ARGS_MIDDLE = 4096,
	ARGS_LONG = 32768,
	ARGS_UNKNOWN = -1,
	/* Of a call that failed each argument is read by itself. */
	ARG_SHORT = 128,
	ARG_LONG = 4096,
	MOST_ARGS_SHORT = 24,
	MOST_ARGS_LONG = 512,
};

#endif
