/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Carries out the steps of plan.h at a probe.
 *
 * Two builds of the same code lie in one object. The plain one loops within the verifier's bounds and reads what is
 * resident (Linux 5.10). The sleepable one loops by bpf_loop and lets the kernel fetch pages (Linux 6.0). Python loads
 * one of them, and sets the sizes: of scratch and blank sizeof(struct machine) + entry_size + return_size + read_room,
 * of frames and overflow FRAME_BYTES.
 */
#ifndef __PYEBPF_PLAN_BPF_H
#define __PYEBPF_PLAN_BPF_H

#include "plan.h"

struct call {
	__u64 start; /* ns, CLOCK_MONOTONIC */
	__u64 sp;    /* at the entry */
	struct capture capture;
};
const volatile __u32 entry_size = 0; /* bytes captured at entry, a multiple of 8 */
#define FRAME_BYTES (sizeof(struct call) + entry_size)
#include "frame.bpf.h"

/*
 * An element of scratch: the registers of the machine, and the call with its bytes behind it. That the registers lie in
 * a map keeps verification short: the verifier follows what it knows of values on the stack from step to step.
 */
struct machine {
	__u64 word;
	__u64 length;
	__s64 error; /* of the value being made: 0 or -errno */
	__u64 fault; /* the address that could not be read, if error is -EFAULT */
	__s64 unknown; /* why length is unknown: 0 or -errno */
	__s64 doubt; /* of the condition being made, for the next STEP_KEEP: 0 or -errno */
	__u64 failed;
	__u64 older; /* bytes of the stack that were in use at the entry, where Go may have moved it: those above call.sp */
	__u64 moved; /* by so much */
	__u64 latency;
	__u64 base; /* where this side's bytes begin in the capture */
	__u64 looked; /* measuring a text: how far */
	__u64 ended;
	__u32 pc;
	__u16 verdict;
	__u16 filtering;
	struct call call;
};

/* What is on the stack. */
struct hit {
	struct pt_regs *ctx;
	struct machine *machine;
	__u64 pid_tgid;
	__u64 cookie;
};

/* See the anchor in site.bpf.h. */
const enum plan_limits *unused_plan_limits __attribute__((unused));
const enum step_action *unused_step_action __attribute__((unused));
const enum plan_field *unused_plan_field __attribute__((unused));
const enum plan_compare *unused_plan_compare __attribute__((unused));
const enum plan_match *unused_plan_match __attribute__((unused));
const enum text_length *unused_text_length __attribute__((unused));
const struct kept_text *unused_kept_text __attribute__((unused));
const struct machine *unused_machine __attribute__((unused));
const struct pt_regs *unused_registers __attribute__((unused));

const volatile bool returns = false;       /* on_return is attached, and says what becomes of a call */
const volatile bool filters_entry = false; /* some function has an entry filter */
const volatile bool filters_return = false;
const volatile __u32 longest = 1;     /* steps of the longest side or filter, its end included: at most PLAN_STEPS */
const volatile __u32 return_size = 0; /* bytes captured at the return */
const volatile __u32 read_room = 8;   /* the most bytes one step keeps, struct kept_text included: 8 or more */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* Python writes it at one go */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct step);
} steps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan_text);
} texts SEC(".maps");

/*
 * Where a thread's call is captured: struct machine, then the bytes. One a thread rather than a CPU, as a uprobe's program
 * can be preempted, and a sleepable one sleep. LRU: threads end.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__uint(key_size, sizeof(__u64));
	__uint(value_size, sizeof(struct machine));
} scratch SEC(".maps");

/* One element of zeros: what an element of scratch begins as. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct machine));
} blank SEC(".maps");

/* include/uapi/asm-generic/errno-base.h, errno.h; include/linux/err.h */
enum { EFAULT = 14, ERANGE = 34, MAX_ERRNO = 4095 };

enum verdict { REJECTED, ACCEPTED, UNDECIDED };

static __always_inline __u8 *captured(struct machine *m)
{
	return (__u8 *)(m + 1);
}

/*
 * Clamps a size where it is used. It is known to be within bounds, but clang keeps a copy on the stack, and Linux 5.10's
 * verifier doesn't connect the two.
 */
#define AT_MOST(size, room)                                                                                            \
	({                                                                                                             \
		__u64 clamped = (size);                                                                                \
		asm volatile("if %0 <= %1 goto +1; %0 = %1" : "+r"(clamped) : "r"((__u64)(room)));                     \
		clamped;                                                                                               \
	})

static __always_inline long read_user(void *to, __u64 size, __u64 room, __u64 address, bool sleepable)
{
	long result = bpf_probe_read_user(to, AT_MOST(size, room), (void *)address);

	if (sleepable && result)
		result = bpf_copy_from_user(to, AT_MOST(size, room), (void *)address);
	return result;
}

/* Returns what bpf_probe_read_user_str does: the bytes written, NUL included. */
static __always_inline long read_user_text(void *to, __u64 size, __u64 room, __u64 address, bool sleepable)
{
	long result = bpf_probe_read_user_str(to, AT_MOST(size, room), (void *)address);
	__u8 byte;

	if (sleepable && result < 0) { /* fetch its pages: it may end in the first, but not beyond the last */
		bpf_copy_from_user(&byte, 1, (void *)address);
		bpf_copy_from_user(&byte, 1, (void *)(address + size - 1));
		result = bpf_probe_read_user_str(to, AT_MOST(size, room), (void *)address);
	}
	return result;
}

enum { MEASURED = 65536 }; /* bytes of a text that are looked at to learn its length */

static long measure_more(__u32 index, void *context)
{
	struct machine *m = *(struct machine **)context;
	__u64 room = read_room; /* nothing is kept there: it lies beyond both sides' bytes */
	long size = read_user_text(captured(m) + entry_size + return_size, room, room, m->looked, true);

	if (size <= 0)
		return 1;
	m->looked += size - 1;
	m->ended = size < room;
	return size < room;
}

/* The length of a text of which `stored` bytes were kept and more may follow. */
static __always_inline __u32 text_length(struct machine *m, __u64 address, __u32 stored, bool sleepable)
{
	__u8 next = 0;

	if (!read_user(&next, 1, 1, address + stored, sleepable) && !next)
		return stored;
	if (!sleepable)
		return TEXT_CUT;
	m->looked = address + stored;
	m->ended = 0;
	bpf_loop(MEASURED / read_room + 1, measure_more, &m, 0);
	return m->ended ? m->looked - address : TEXT_CUT;
}

static __always_inline __u64 goroutine(const struct hit *hit)
{
	const volatile struct abi *abi = site_abi(hit->cookie);

	return abi->convention == CALL_C ? 0 : go_id(abi, go_g(hit->ctx, abi));
}

static __always_inline __u64 plan_field(const struct hit *hit, __u32 field)
{
	__u64 name[2] = {};

	switch (field) {
	case FIELD_LATENCY:
		return hit->machine->latency;
	case FIELD_PID:
		return hit->pid_tgid >> 32;
	case FIELD_TID:
		return (__u32)hit->pid_tgid;
	case FIELD_GOID:
		return goroutine(hit);
	case FIELD_UID:
		return (__u32)bpf_get_current_uid_gid();
	case FIELD_CPU:
		return bpf_get_smp_processor_id();
	case FIELD_COMM:
	case FIELD_COMM_REST:
		bpf_get_current_comm(name, sizeof(name));
		return field == FIELD_COMM ? name[0] : name[1];
	}
	return 0;
}

static __always_inline bool holds(__u64 word, __s64 operand, __u8 compare)
{
	bool less = compare & 8 ? word < (__u64)operand : (__s64)word < operand;

	if (word == (__u64)operand)
		return compare & 1;
	return less ? compare & 2 : compare & 4;
}

/* Whether the text that word points at is that row of texts[]. Sets the error if it can't be read. */
static __always_inline bool matches(struct machine *m, __u32 row, __u8 how, bool sleepable)
{
	const struct plan_text *text = bpf_map_lookup_elem(&texts, &row);
	__u64 bytes[PLAN_TEXT / 8 + 1] = {}, difference = 0, wanted, length;
	const __u64 *expected;
	long result;

	if (!text)
		return false;
	wanted = text->length;
	if (wanted > PLAN_TEXT - 1)
		return false;
	if (how & MATCH_COUNTED) {
		if (m->unknown) {
			m->error = m->unknown;
			return false;
		}
		length = m->length;
		if (length < wanted || (length > wanted && !(how & MATCH_PREFIX)))
			return false;
		result = read_user(bytes, wanted, sizeof(bytes), m->word, sleepable);
	} else {
		/* With room for one more byte a longer text is seen to be longer. */
		wanted += how & MATCH_PREFIX ? 1 : 2;
		if (how & MATCH_COMM) {
			char comm[16] = {};

			bpf_get_current_comm(comm, sizeof(comm));
			result = bpf_probe_read_kernel_str(bytes, AT_MOST(wanted, sizeof(bytes)), comm);
		} else {
			result = read_user_text(bytes, wanted, sizeof(bytes), m->word, sleepable);
		}
		length = result - 1;
	}
	if (result < 0) {
		m->error = result;
		return false;
	}
	if (length < text->length || (length > text->length && !(how & MATCH_PREFIX)))
		return false;
	expected = (const __u64 *)text->bytes;
#pragma unroll
	for (int i = 0; i < PLAN_TEXT / 8; i++)
		difference |= bytes[i] ^ expected[i];
	return !difference;
}

/* Keeps something of at most `size` bytes. False: the plan is wrong, there is no room. */
static __always_inline bool keep(struct machine *m, const struct step *step, __u8 action, bool sleepable)
{
	__u64 at = m->base + step->target, size = step->size, address = m->word + step->operand;
	__u64 bytes = entry_size, room = read_room;
	struct kept_text *text;
	long result = m->error;
	bool read = false;
	void *to;

	if (at > bytes + return_size)
		return false;
	to = captured(m) + at;
	switch (action) {
	case STEP_KEEP:
		if (!result)
			result = m->doubt;
		m->doubt = 0;
		if (!result)
			*(__u64 *)to = m->word;
		break;
	case STEP_COPY:
		if (size > room)
			return false;
		if (!result) {
			result = read_user(to, size, room, address, sleepable);
			read = true;
		}
		break;
	default:
		text = to;
		room -= sizeof(*text);
		if (size > room)
			return false;
		if (action == STEP_BYTES && m->unknown)
			result = m->unknown;
		if (result)
			break;
		read = true;
		if (action == STEP_BYTES) {
			if (size > m->length)
				size = m->length;
			text->stored = size;
			text->length = m->length < TEXT_CUT ? m->length : TEXT_CUT - 1;
			result = read_user(text + 1, size, room, address, sleepable);
		} else {
			result = read_user_text(text + 1, size, room, address, sleepable);
			if (result >= 0) {
				text->stored = text->length = result ? result - 1 : 0;
				if (result == size)
					text->length = text_length(m, address, text->stored, sleepable);
				result = 0;
			}
		}
	}
	if (result) {
		if (result == -EFAULT)
			result = read ? address : m->fault;
		*(__s64 *)to = result;
		m->failed |= 1ull << (step->slot & (PLAN_SLOTS - 1));
	}
	return true;
}

/* Carries out one step. True: that was the last. */
static __always_inline bool plan_step(struct hit *hit, bool sleepable)
{
	struct machine *m = hit->machine;
	const struct step *step = bpf_map_lookup_elem(&steps, &m->pc);
	__u64 value = 0, size, address;
	__u8 action;

	if (!step)
		return true;
	m->pc++;
	action = step->action;
	switch (action) {
	case STEP_REGISTER:
		/* Which bytes may be read there is no secret: the mask only satisfies the verifier. */
		m->error = bpf_probe_read_kernel(&m->word, sizeof(m->word), (void *)hit->ctx + (step->operand & 511));
		return false;
	case STEP_CONSTANT:
		m->word = step->operand;
		m->error = 0;
		return false;
	case STEP_FIELD:
		m->word = plan_field(hit, step->size);
		m->error = 0;
		return false;
	case STEP_SAVED:
		size = step->target;
		if (size > entry_size)
			return true;
		m->word = *(__u64 *)(captured(m) + size);
		m->error = 0;
		if (m->call.capture.failed_entry >> (step->slot & (PLAN_SLOTS - 1)) & 1) {
			m->fault = m->word;
			m->error = (__s64)m->word < 0 && (__s64)m->word >= -MAX_ERRNO ? m->word : -EFAULT;
		}
		if (m->word - m->call.sp < m->older)
			m->word += m->moved;
		return false;
	case STEP_ADD:
		m->word += step->operand;
		return false;
	case STEP_LOAD:
		size = step->size;
		if (m->error)
			return false;
		if (size > sizeof(value))
			return true;
		address = m->word + step->operand;
		m->error = read_user(&value, size, sizeof(value), address, sleepable);
		if (m->error)
			m->fault = address;
		m->word = value;
		return false;
	case STEP_TRIM:
		size = 64 - step->size;
		value = m->word >> (step->target & 63) << (size & 63);
		m->word = step->operand ? (__s64)value >> (size & 63) : value >> (size & 63);
		return false;
	case STEP_LENGTH:
		m->length = m->word;
		m->unknown = m->error;
		return false;
	case STEP_BOUND:
		if (!m->error)
			m->error = m->unknown;
		if (!m->error && (__u64)step->operand >= m->length)
			m->error = -ERANGE;
		return false;
	case STEP_SCALE:
		m->word *= step->operand;
		return false;
	case STEP_KEEP:
	case STEP_COPY:
	case STEP_BYTES:
	case STEP_STRING:
		return !keep(m, step, action, sleepable);
	case STEP_TEST:
		if (!m->error && holds(m->word, step->operand, step->slot))
			return false;
		break;
	case STEP_MATCH:
		value = step->slot;
		if (!m->error && matches(m, step->operand, value, sleepable) == !(value & MATCH_NOT) && !m->error)
			return false;
		break;
	case STEP_JUMP:
		m->pc = step->target;
		return false;
	case STEP_ACCEPT:
		m->verdict = ACCEPTED;
		return true;
	default: /* STEP_END, STEP_REJECT */
		return true;
	}
	/* STEP_TEST and STEP_MATCH that did not hold. */
	if (m->error) {
		m->doubt = m->error;
		if (m->filtering) {
			m->verdict = UNDECIDED;
			return true;
		}
	}
	m->pc = step->target;
	return false;
}

static long plan_next(__u32 index, void *context)
{
	return plan_step(context, true);
}

/* Functions of their own: what one step leaves on the stack is nothing that the verifier must follow to the next. */
static __noinline int plan_one(struct hit *hit)
{
	return plan_step(hit, false);
}

static __noinline int plan_loop(struct hit *hit)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < longest; i++)
		if (plan_one(hit))
			break;
	return 0;
}

static __always_inline void plan_run(struct hit *hit, __u32 first, bool filtering, bool sleepable)
{
	struct machine *m = hit->machine;

	m->word = m->length = m->error = m->unknown = m->doubt = m->failed = 0;
	m->verdict = REJECTED;
	m->filtering = filtering;
	m->pc = first;
	if (sleepable)
		bpf_loop(longest, plan_next, hit, 0);
	else
		plan_loop(hit);
}

static __always_inline bool plan_wants(struct hit *hit, __u32 filter, bool sleepable)
{
	if (!filter)
		return true;
	plan_run(hit, filter, true, sleepable);
	if (hit->machine->verdict == ACCEPTED)
		return true;
	if (hit->machine->verdict == UNDECIDED)
		TALLY(undecided);
	else
		TALLY(rejected);
	return false;
}

#endif
