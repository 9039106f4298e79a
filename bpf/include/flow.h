/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_FLOW_H
#define __PYEBPF_FLOW_H

/*
 * The two ends of a connection. IPv4 addresses are in the first four bytes; the rest is 0. A socket of IPv6 that speaks
 * IPv4 (::ffff:192.0.2.1) counts as IPv4, which is what is on the wire.
 */
struct flow {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port; /* host byte order */
	__u16 remote_port;
	__u16 family; /* AF_INET or AF_INET6 */
	__u16 reserved;
	__u32 netns; /* inode number of the network namespace */
};

#endif
