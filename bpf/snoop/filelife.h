/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_FILELIFE_H
#define __PYEBPF_FILELIFE_H

#include "include/actor.h"

/* A path follows, `path_size` bytes; with `full_paths`, room for the directory it is relative to. */
struct file_event {
	struct actor actor; /* who deleted it */
	__u64 age;	    /* ns */
	__u64 inode;
	__u32 device;
	__u32 made_by; /* process */
	char made_comm[16];
	__s32 path_size; /* with the NUL; -errno: it could not be read */
	__u32 names_size; /* of the directory: see path.bpf.h */
	__u32 replaced;	  /* another file was given its name: rename(2) */
	__u32 reserved;
};

#endif
