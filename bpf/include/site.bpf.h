/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which site was hit. */
#ifndef __PYEBPF_SITE_BPF_H
#define __PYEBPF_SITE_BPF_H

#include "site.h"
#include "wanted.bpf.h"
#include "../public/own_stack.bpf.h"

/* Anchors: clang leaves a type out of the BTF that nothing global refers to. */
const enum site_cookie *unused_site_cookie __attribute__((unused));

/* Attach cookies: Linux 5.15, 7adfc6c9b315 ("bpf: Add bpf_get_attach_cookie() BPF helper"). */
const volatile bool have_cookies = true;

/*
 * The site's cookie. Kernels without cookies run one copy of the program a cookie; core/ writes the cookie over the
 * constant below in each copy.
 */
#define SITE_PLACEHOLDER 0x5eedc00c1e5eed00
static __always_inline __u64 site_cookie(struct pt_regs *ctx)
{
	__u64 cookie;

	if (have_cookies)
		return bpf_get_attach_cookie(ctx);
	asm volatile("%0 = 0x5eedc00c1e5eed00 ll" : "=r"(cookie));
	return cookie;
}

#endif
