/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What became of the calls that were seen. entered = returned + abandoned + refused + in progress + evicted. */
#ifndef __PYEBPF_TALLY_H
#define __PYEBPF_TALLY_H

struct tally {
	__u64 entered;    /* entries seen */
	__u64 returned;   /* returns matched with their entry */
	__u64 abandoned;  /* frames reused by a later call: left by panic, exception or longjmp */
	__u64 refused;    /* entries the maps could not take */
	__u64 spilled;    /* frames put into overflow */
	__u64 recovered;  /* frames taken out of it: the others are there, or evicted */
	__u64 unmatched;  /* returns without an entry: begun before we attached, or evicted */
	__u64 unreadable; /* hits whose goroutine could not be read */
	__u64 sent;       /* records handed to the ring buffer */
	__u64 dropped;    /* records for which the ring buffer had no room */
	__u64 rejected;   /* calls that a filter did not want, at the entry or at the return */
	__u64 undecided;  /* calls that a filter could not judge: memory it needs could not be read */
	__u64 failed;     /* values left out of a histogram because they could not be read */
	__u64 uncounted;  /* calls that a full map could not count */
	__u64 collided;   /* stacks that another stack's place in the map kept out */
	__u64 unread;     /* texts or data shown as unreadable */
};

#endif
