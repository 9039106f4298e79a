/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_CAPABLE_H
#define __PYEBPF_CAPABLE_H

#include "include/actor.h"

enum capable_limits { CAPABLE_FRAMES = 127 };
enum capable_options { OPTIONS_UNKNOWN = -1 };

struct capable_event {
	struct actor actor;
	__s32 capability;
	__s32 result;  /* 0 or -errno */
	__s32 options; /* CAP_OPT_*, or OPTIONS_UNKNOWN */
	__u32 reserved;
	__s32 user_stack_size; /* bytes, or -errno */
	__s32 kernel_stack_size;
};

struct capable_stacks {
	struct capable_event event;
	__u64 user_stack[CAPABLE_FRAMES];
	__u64 kernel_stack[CAPABLE_FRAMES];
};

#endif
