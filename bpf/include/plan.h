/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is read at a probe: a table of steps that Python writes and one prebuilt program carries out.
 *
 * The machine has two registers, word and length, and an error. A value's steps begin with one that sets word from
 * somewhere (and clears the error), go on with loads, and end with one that keeps the result in the capture, the bytes
 * that become part of the record. What fails (unreadable memory) sets the error; the steps up to the keeping one then
 * do nothing, and the keeping one marks its slot as failed.
 *
 * A text takes two values: its length, then its address. So an error at STEP_LENGTH outlives the step that sets word next:
 * length is unknown then, and what uses it (STEP_BOUND, STEP_BYTES, MATCH_COUNTED) fails likewise.
 *
 * A capture is the entry's entry_size bytes followed by the return's return_size bytes. Kept values begin at multiples
 * of 8 and have at least 8 bytes. A step that would write beyond its side's size ends the side.
 */
#ifndef __PYEBPF_PLAN_H
#define __PYEBPF_PLAN_H

enum plan_limits {
	PLAN_STEPS = 512,    /* most steps carried out at one hit */
	PLAN_SLOTS = 64,     /* kept values a side, entry and return; a bit each in the record's masks of failures */
	PLAN_TEXT = 64,      /* bytes of a text in a filter, its terminating NUL included */
	PLAN_MAX_READ = 4096 /* bytes read by one step */
};

enum step_action {
	STEP_END = 0,  /* the side is done */
	/* Set word; these begin a value and clear the error. */
	STEP_REGISTER, /* word = the 8 bytes at operand in struct pt_regs */
	STEP_CONSTANT, /* word = operand */
	STEP_FIELD,    /* word = what enum plan_field names in size */
	STEP_SAVED,    /* at the return: word = 8 bytes at target of the entry's capture; its error if its slot failed.
			  An address on a Go stack that has moved since is changed as Go changed its own. */
	/* Change word. */
	STEP_ADD,      /* word += operand */
	STEP_LOAD,     /* word = size (1, 2, 4, 8) bytes at user address word + operand, zero-extended */
	STEP_TRIM,     /* word = (word >> target) & (2^size - 1); sign-extended from bit size - 1 if operand is 1 */
	STEP_LENGTH,   /* length = word; on error unknown, see above */
	STEP_BOUND,    /* error ERANGE unless operand < length, unsigned */
	STEP_SCALE,    /* word = word * operand */
	/* Keep something in the capture, at byte target. On error bit slot of the mask is set, and 8 bytes hold the
	   address that could not be read, or -errno. */
	STEP_KEEP,     /* 8 bytes: word */
	STEP_COPY,     /* size bytes at user address word + operand */
	STEP_BYTES,    /* struct kept_text, then min(length, size) bytes at user address word + operand */
	STEP_STRING,   /* struct kept_text, then the NUL-terminated string there, at most size bytes with its NUL */
	/*
	 * Decide. On error, a filter rejects the call and counts it as undecided; elsewhere (a condition that is kept as 0
	 * or 1 for the return's filter) STEP_TEST and STEP_MATCH go to target, and the next STEP_KEEP fails with that error.
	 */
	STEP_TEST,     /* go to step target unless word COMPARE operand; COMPARE in slot */
	STEP_MATCH,    /* go to step target unless the text at user address word matches row operand of texts[]; how: slot */
	STEP_JUMP,     /* go to step target, which lies ahead, as all targets do */
	STEP_ACCEPT,   /* a filter's end: the call is wanted */
	STEP_REJECT,   /* a filter's end: it isn't; so does STEP_END */
};

enum plan_field {
	FIELD_LATENCY = 0, /* ns since the entry; at the return only */
	FIELD_PID,
	FIELD_TID,
	FIELD_GOID, /* 0 when it isn't Go */
	FIELD_UID,
	FIELD_CPU,
	FIELD_COMM,      /* the first 8 bytes of the thread's name, which has 16 with its NULs */
	FIELD_COMM_REST, /* the others */
};

/* Bits: it holds when equal (1), when word is less (2), when it is greater (4); unsigned instead of signed (8). */
enum plan_compare {
	COMPARE_EQ = 1,
	COMPARE_NE = 6,
	COMPARE_LT = 2,
	COMPARE_LE = 3,
	COMPARE_GT = 4,
	COMPARE_GE = 5,
	COMPARE_BELOW = 10,
	COMPARE_BELOW_EQ = 11,
	COMPARE_ABOVE = 12,
	COMPARE_ABOVE_EQ = 13,
};

/* What STEP_MATCH compares: flags. */
enum plan_match {
	MATCH_COUNTED = 1, /* the text's length is in length; else it ends with a NUL */
	MATCH_COMM = 2,    /* the thread's name instead of a text in memory */
	MATCH_PREFIX = 4,  /* it need only begin so */
	MATCH_NOT = 8,     /* the other way round */
};

struct step {
	__u8 action;
	__u8 slot;
	__u16 size;
	__u32 target;
	__s64 operand;
};

/* Where a function's steps begin in steps[]: 0 = none (row 0 holds STEP_END). plans[] has a row a function. */
struct plan {
	__u32 entry_filter;
	__u32 entry;
	__u32 return_filter;
	__u32 ret;
};

/* A text to compare with, padded with NULs. */
struct plan_text {
	__u8 bytes[PLAN_TEXT];
	__u32 length; /* without NUL */
	__u32 unused;
};

/* In front of captured bytes. */
struct kept_text {
	__u32 stored; /* bytes that follow, without NUL */
	__u32 length; /* what there was to read, in bytes; TEXT_CUT if it is only known to be more than stored */
};

enum text_length { TEXT_CUT = 0x7fffffff };

/* In front of a capture's bytes. */
struct capture {
	__u32 function;
	__u32 unused;
	__u64 failed_entry;  /* bit slot: the entry's value is -errno */
	__u64 failed_return; /* the same for the return's */
};

#endif
