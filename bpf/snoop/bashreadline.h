/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_BASHREADLINE_H
#define __PYEBPF_BASHREADLINE_H

#include "include/actor.h"

/* The line follows, `line_size` bytes. */
struct line_event {
	struct actor actor;
	__s32 line_size; /* with the NUL; -errno: it could not be read */
	__u32 function;
};

#endif
