/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_MOUNTSNOOP_H
#define __PYEBPF_MOUNTSNOOP_H

#include "include/actor.h"

enum mount_call {
	CALL_MOUNT,
	CALL_UMOUNT,
	CALL_PIVOT_ROOT,
	CALL_FSOPEN,
	CALL_FSPICK,
	CALL_FSCONFIG,
	CALL_FSMOUNT,
	CALL_MOVE_MOUNT,
	CALL_OPEN_TREE,
	CALL_MOUNT_SETATTR,
	CALL_OPEN_TREE_ATTR,
};

enum mount_limits { MOUNT_TEXTS = 4, MOUNT_SHORT = 128, MOUNT_LONG = 4096 + 8 /* more than PATH_MAX */ };

enum mount_text { TEXT_NULL = -65536 }; /* there is none, or a null pointer */

/* Behind it the call's texts in their order, each in MOUNT_SHORT or, if one of them needs it, MOUNT_LONG bytes. */
struct mount_event {
	struct actor actor;
	__u64 duration; /* ns */
	__u64 args[6];	/* as the process gave them */
	__u64 attributes[4]; /* struct mount_attr of mount_setattr(2), where it could be read */
	__s64 result;	     /* a file descriptor, 0, or -errno */
	__s32 text_sizes[MOUNT_TEXTS]; /* with the NUL (0: empty, on older kernels), TEXT_NULL, or -errno */
	__u32 call;	      /* enum mount_call */
	__u32 mount_namespace; /* inode number */
	__u32 parent;	       /* process */
	__u32 has_attributes;
	char parent_comm[16];
};

#endif
