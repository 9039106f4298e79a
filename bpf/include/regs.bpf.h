/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The registers each calling convention uses, by architecture. */
#ifndef __PYEBPF_REGS_BPF_H
#define __PYEBPF_REGS_BPF_H

/*
 * One load at a constant offset, which is all the verifier allows on the context: clang would merge two branches that
 * read different registers into one load at a computed offset.
 */
#define REG(ctx, name)                                                                                                 \
	({                                                                                                             \
		unsigned long value;                                                                                   \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                                                                  \
			     : "=r"(value)                                                                             \
			     : "r"(ctx), "i"(__builtin_offsetof(struct pt_regs, name)));                               \
		value;                                                                                                 \
	})

#if defined(__TARGET_ARCH_x86)

#define REG_SP(ctx) REG(ctx, sp)
#define REG_GO_G(ctx) REG(ctx, r14) /* Go: src/cmd/compile/abi-internal.md */
#define REG_GO_SEVENTH(ctx) REG(ctx, r9) /* the seventh integer argument */
#define RETURN_ADDRESS_SIZE 8     /* pushed by call, popped by ret */

static __always_inline void read_argument_registers(struct pt_regs *ctx, bool go, __u64 *words)
{
	if (go) { /* RAX RBX RCX RDI RSI R8 */
		words[0] = REG(ctx, ax);
		words[1] = REG(ctx, bx);
		words[2] = REG(ctx, cx);
		words[3] = REG(ctx, di);
		words[4] = REG(ctx, si);
		words[5] = REG(ctx, r8);
	} else { /* System V AMD64 psABI 3.2.3 */
		words[0] = REG(ctx, di);
		words[1] = REG(ctx, si);
		words[2] = REG(ctx, dx);
		words[3] = REG(ctx, cx);
		words[4] = REG(ctx, r8);
		words[5] = REG(ctx, r9);
	}
}

/* The first integer result: RAX in System V and in Go's register ABI. */
static __always_inline __u64 read_result_register(struct pt_regs *ctx)
{
	return REG(ctx, ax);
}

/* At a RET instruction the return address is on top of the stack. */
static __always_inline __u64 read_return_address(struct pt_regs *ctx)
{
	__u64 address = 0;

	bpf_probe_read_user(&address, sizeof(address), (void *)REG(ctx, sp));
	return address;
}

#elif defined(__TARGET_ARCH_arm64)

#define REG_SP(ctx) REG(ctx, user_regs.sp)
#define REG_GO_G(ctx) REG(ctx, user_regs.regs[28])
#define REG_GO_SEVENTH(ctx) REG(ctx, user_regs.regs[6])
#define RETURN_ADDRESS_SIZE 0 /* the return address travels in x30 */

/* X0..X5 in AAPCS64 and in Go's register ABI alike. */
static __always_inline void read_argument_registers(struct pt_regs *ctx, bool go, __u64 *words)
{
	words[0] = REG(ctx, user_regs.regs[0]);
	words[1] = REG(ctx, user_regs.regs[1]);
	words[2] = REG(ctx, user_regs.regs[2]);
	words[3] = REG(ctx, user_regs.regs[3]);
	words[4] = REG(ctx, user_regs.regs[4]);
	words[5] = REG(ctx, user_regs.regs[5]);
}

static __always_inline __u64 read_result_register(struct pt_regs *ctx)
{
	return REG(ctx, user_regs.regs[0]);
}

static __always_inline __u64 read_return_address(struct pt_regs *ctx)
{
	return REG(ctx, user_regs.regs[30]);
}

#endif
#endif
