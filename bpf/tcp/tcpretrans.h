/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPRETRANS_H
#define __PYEBPF_TCPRETRANS_H

#include "include/actor.h"
#include "include/flow.h"

enum retransmit_type {
	RETRANSMIT = 'R',
	LOSS_PROBE = 'L',
	SYNACK = 'S',
};

struct retransmit_event {
	struct actor actor; /* the socket's owner; tgid 0: not known */
	struct flow flow;
	__u32 sequence;
	__s32 error; /* 0: sent; else -errno */
	__u8 type;   /* enum retransmit_type */
	__u8 state;
	__u16 reserved;
};

struct retransmit_key {
	struct flow flow;
	__u32 type;
};

#endif
