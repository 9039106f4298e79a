/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_BINDSNOOP_H
#define __PYEBPF_BINDSNOOP_H

#include "include/actor.h"
#include "include/flow.h"

enum bind_option {
	BIND_FREEBIND = 1,
	BIND_TRANSPARENT = 2,
	BIND_ADDRESS_NO_PORT = 4,
	BIND_REUSEADDR = 8,
	BIND_REUSEPORT = 16,
};

enum bind_known {
	KNOWN_ADDRESS = 1, /* flow's local address and port */
	KNOWN_PORT = 2,    /* raw sockets have none */
	KNOWN_SOCKET = 4,  /* protocol, options, device, network namespace */
};

struct bind_event {
	struct actor actor;
	struct flow flow; /* what the socket has then; if it failed, what was asked for */
	__s32 result;	  /* 0 or -errno */
	__u32 options;	  /* enum bind_option */
	__u32 device;	  /* index of the network device; 0: any */
	__u16 protocol;	  /* IPPROTO_* */
	__u16 known;	  /* enum bind_known */
};

#endif
