/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_KILLSNOOP_H
#define __PYEBPF_KILLSNOOP_H

#include "include/actor.h"

/* How a signal was sent. In this order in killsnoop.py. */
enum kill_call { BY_KERNEL, BY_KILL, BY_TKILL, BY_TGKILL, BY_SIGQUEUE, BY_TGSIGQUEUE, BY_PIDFD };
const enum kill_call *unused_kill_call __attribute__((unused));

/* What became of it: TRACE_SIGNAL_* of include/trace/events/signal.h, which are ABI of signal:signal_generate. */
enum kill_outcome { KILL_DELIVERED, KILL_IGNORED, KILL_PENDING, KILL_OVERFLOW, KILL_INFO_LOST, KILL_NOTHING };
const enum kill_outcome *unused_kill_outcome __attribute__((unused));

struct kill_event {
	struct actor actor; /* BY_KERNEL: whose process was interrupted; see is_actor */
	__s32 target;	    /* process; of a call that sent nothing, what it was given; NO_TARGET: nobody knows */
	__u32 target_tid;   /* of a signal to one thread; 0: to the process */
	char target_comm[16];
	__u32 signal;
	__s32 result;  /* of the call */
	__u32 call;    /* enum kill_call */
	__u32 outcome; /* enum kill_outcome */
	__u32 is_actor; /* the actor is the reason for it */
	__u32 reserved;
};

enum kill_target { NO_TARGET = -0x7fffffff };
const enum kill_target *unused_kill_target __attribute__((unused));

#endif
