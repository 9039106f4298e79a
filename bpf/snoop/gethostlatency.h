/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_GETHOSTLATENCY_H
#define __PYEBPF_GETHOSTLATENCY_H

#include "include/actor.h"

/* How a function says what came of it. */
enum lookup_form {
	LOOKUP_CODE = 0,    /* an error number is returned: getaddrinfo */
	LOOKUP_POINTER = 1, /* an address is returned, NULL: nothing was found: gethostbyname, gethostbyname2 */
	LOOKUP_FIFTH = 2,   /* an address is stored where the fifth argument points to: gethostbyname_r */
	LOOKUP_SIXTH = 3,   /* the sixth: gethostbyname2_r */
	/* Go: a slice and an error are returned. The host is a string, from that word of the arguments on. */
	LOOKUP_GO_THIRD = 4, /* net.(*Resolver).lookupHost(ctx, host) */
	LOOKUP_GO_FIFTH = 5, /* net.(*Resolver).lookupIPAddr(ctx, network, host) */
};

/* The name follows, `host_size` bytes. */
struct lookup_event {
	struct actor actor; /* its time is the return's */
	__u64 latency;      /* ns */
	__u32 function;
	__s32 code;      /* what was returned, of LOOKUP_CODE; else 0 */
	__u32 failed;    /* nothing was found */
	__s32 host_size; /* with the NUL; -errno: it could not be read */
};

#endif
