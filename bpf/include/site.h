/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a probe site is told about itself at attach time: the layout of the attach cookie. Python reads it from BTF. */
#ifndef __PYEBPF_SITE_H
#define __PYEBPF_SITE_H

enum site_cookie {
	SITE_FUNCTION_BITS = 32, /* bits 0..31: the function's index */
	SITE_ABI_SHIFT = 32,     /* bits 32..37: row of abis[] */
	SITE_ABI_ROWS = 64,
	SITE_POPPED_SHIFT = 40, /* bit 40: a kernel return probe: the return address has left the stack */
	SITE_TAIL_SHIFT = 41,   /* bit 41: a function that ends in tail calls, so it returns where those functions do */
};

enum calling_convention {
	CALL_C = 0,        /* System V (x86-64), AAPCS64 (arm64) */
	CALL_GO = 1,       /* Go's register ABI (ABIInternal, Go 1.17 and newer) */
	CALL_GO_STACK = 2, /* Go's stack ABI (ABI0): Go 1.16 and older, and assembly */
};

/* How one binary's functions call: a row for each convention that is met in the run. */
struct abi {
	enum calling_convention convention;
	__s32 tls_offset;  /* CALL_GO_STACK on x86-64: where g lies, relative to the FS base */
	__u32 goid_offset; /* g.goid, 0 when unknown */
};

#endif
