/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPCONNECT_H
#define __PYEBPF_TCPCONNECT_H

#include "include/connect.h"

/* What a process received from a name server; the message follows, in one of two rooms. */
struct dns_event {
	__u32 size;
	__u32 reserved;
};

enum dns_room { DNS_SHORT = 512, DNS_LONG = 4096 };

#endif
