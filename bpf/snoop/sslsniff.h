/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_SSLSNIFF_H
#define __PYEBPF_SSLSNIFF_H

#include "include/actor.h"

/* What a function does. */
enum ssl_act {
	SSL_READS = 0,
	SSL_WRITES = 1,
	SSL_SHAKES_HANDS = 2,
};

/* How it says how many bytes, or that it did. */
enum ssl_form {
	SSL_INT = 0,    /* an int is returned; not positive: nothing */
	SSL_WORD = 1,   /* the same in 64 bits: GnuTLS, Go */
	SSL_STORED = 2, /* 1 is returned, and the number stored where the fourth argument points to: SSL_read_ex */
	SSL_ZERO = 3,   /* 0: it did. gnutls_handshake */
};

struct ssl_function {
	enum ssl_act act;
	enum ssl_form form;
	__u32 entry_only; /* its return can't be seen */
};

enum ssl_rooms {
	SSL_SHORT = 512,
	SSL_MIDDLE = 4096,
	SSL_RECORD = 16384, /* what a TLS record holds, RFC 8446 5.1; beyond there is as much room as was asked for */
};

/* The data follow. */
struct ssl_event {
	struct actor actor; /* its time is the return's */
	__u64 latency;      /* ns */
	__u64 size;         /* bytes that were read or written */
	__u32 function;
	__s32 kept;  /* bytes of them that follow; -errno: they could not be read */
	__u32 ended; /* false: seen at the entry, there is no latency */
	__u32 reserved;
};

#endif
