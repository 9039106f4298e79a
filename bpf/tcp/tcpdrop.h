/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPDROP_H
#define __PYEBPF_TCPDROP_H

#include "include/actor.h"
#include "include/flow.h"

enum drop_sizes { DROP_FRAMES = 100 };

struct drop_event {
	struct actor actor; /* the socket's owner; tgid 0: no socket, or not known */
	struct flow flow;   /* local: where the packet comes from; remote: where it goes. netns 0: not known */
	__u32 reason;	    /* enum skb_drop_reason */
	__u8 state;	    /* the socket's; 0: no socket */
	__u8 flags;	    /* of the TCP header, its byte 13 */
	__u16 reserved;
	__s32 stack_size; /* bytes, or -errno */
	__u64 location;	  /* where the packet was given up: an address in the stack */
	__u64 stack[DROP_FRAMES];
};

#endif
