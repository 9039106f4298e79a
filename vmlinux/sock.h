/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sockets, from struct sock to TCP. Only the fields that are read. */
#ifndef __PYEBPF_VMLINUX_SOCK_H
#define __PYEBPF_VMLINUX_SOCK_H

#include "task.h"

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

/* include/net/tcp_states.h */
enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
	TCP_NEW_SYN_RECV,
};

/* include/net/sock.h: enum sock_flags */
#define SOCK_DONE 1 /* the peer's FIN has come */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	union {
		struct {
			__be32 skc_daddr;
			__be32 skc_rcv_saddr;
		};
	};
	union {
		struct {
			__be16 skc_dport;
			__u16 skc_num;
		};
	};
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	int skc_bound_dev_if;
	union {
		struct sock *skc_listener; /* of a struct request_sock */
	};
	possible_net_t skc_net;
	unsigned long skc_flags; /* bits of enum sock_flags */
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sk_buff_head {
	struct sk_buff *next;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket; /* NULL: not accepted yet, or closed */
	int sk_err;
	atomic_t sk_drops;
	struct sk_buff_head sk_write_queue; /* what was not sent yet */
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	__u16 sk_type;
	__u16 sk_protocol; /* a bit field before 5.6 */
	__u8 sk_shutdown;  /* 1: will not receive, 2: will not send */
};

typedef enum {
	SS_FREE = 0,
	SS_UNCONNECTED,
	SS_CONNECTING,
	SS_CONNECTED,
} socket_state;

struct socket {
	socket_state state;
	struct sock *sk;
};

struct proto_accept_arg {
	int flags;
}; /* 92ef0fd55ac8 ("net: change proto and proto_ops accept type"), Linux 6.10 */

struct inet_sock {
	struct sock sk;
	__be16 inet_sport; /* still there when skc_num was given back */
	unsigned long inet_flags; /* since 6.6, c274af224269 ("inet: introduce inet->inet_flags") */
};

struct inet_sock___before_6_6 {
	__u8 freebind : 1;
	__u8 transparent : 1;
	__u8 bind_address_no_port : 1;
};

struct inet_connection_sock {
	__u8 icsk_ca_state : 5;
};

struct request_sock {
	struct sock_common __req_common;
};

struct tcp_request_sock {
	__u32 snt_isn;
};

struct tcp_sock {
	__u64 bytes_received;
	__u64 bytes_acked;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u32 srtt_us; /* times 8 */
	__u32 copied_seq;
	__u32 rcv_nxt;
	__u32 write_seq;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 snd_cwnd;
	__u32 snd_wnd;
	__u32 mss_cache;
	__u32 tlp_high_seq; /* 0: no tail loss probe is under way */
};

#pragma clang attribute pop

#endif
