/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPSUBNET_H
#define __PYEBPF_TCPSUBNET_H

/*
 * Which subnet: the key of a trie, which compares the first `length` bits of what follows it. The family comes first, so
 * that no subnet of IPv6 holds an address of IPv4.
 */
struct subnet {
	__u32 length; /* 32 for the family, and the subnet's own */
	__u32 family; /* AF_INET or AF_INET6 */
	__u8 address[16];
};

#endif
