/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_ARGDIST_H
#define __PYEBPF_ARGDIST_H

/*
 * Rows of log2. Unsigned: value 0 in bucket 0, v in bucket 1 + floor(log2 v). Signed: the same below NEGATIVE, and
 * v < 0 in bucket NEGATIVE + floor(log2 -v).
 */
enum distribution_buckets {
	DISTRIBUTION_BUCKETS = 128,
	DISTRIBUTION_NEGATIVE = 64, /* signed values only: an unsigned one can have bucket 64 */
};

struct distribution {
	__u64 buckets[DISTRIBUTION_BUCKETS];
};

#endif
