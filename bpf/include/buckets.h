/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_BUCKETS_H
#define __PYEBPF_BUCKETS_H

/*
 * Log-linear buckets: each power of two is divided in 8, so a value is known to 1/8 of itself and eight buckets add up
 * to one row of a log2 histogram. Values below 8 have a bucket each; value v >= 8 with e = floor(log2 v) lies in
 * bucket (e - 2) * 8 + (v >> (e - 3) & 7).
 */
enum latency_buckets {
	SUB_BUCKET_BITS = 3,
	BUCKETS = 62 * 8,
	BUCKET_ROOM = 512, /* a power of two: a mask bounds the index for every verifier, Linux 5.10's too */
};

#endif
