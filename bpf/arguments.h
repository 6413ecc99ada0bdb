/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a probed function is called with, as the probe's cookie says. */
#ifndef MEMLEAK_ARGUMENTS_H
#define MEMLEAK_ARGUMENTS_H

#include "kernel.h"
#include "memleak.h"

INLINE u32 function_of(u64 cookie)
{
	return cookie >> ML_COOKIE_FUNCTION & 0xffff;
}

/* In assembly: else clang picks the register by address, which the verifier forbids. */
#define REGISTER(regs, name)                                                                       \
	({                                                                                         \
		u64 value_;                                                                        \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                                              \
			     : "=r"(value_)                                                        \
			     : "r"(regs), "i"(__builtin_offsetof(struct pt_regs, name)));          \
		value_;                                                                            \
	})

/* The argument whose number the cookie has at `shift`. */
INLINE u64 argument_at(struct pt_regs *regs, u64 cookie, u32 shift)
{
	switch (cookie >> shift & 7) {
	case 1:
		return REGISTER(regs, rdi);
	case 2:
		return REGISTER(regs, rsi);
	case 3:
		return REGISTER(regs, rdx);
	case 4:
		return REGISTER(regs, rcx);
	case 5:
		return REGISTER(regs, r8);
	case 6:
		return REGISTER(regs, r9);
	}
	return 0;
}

/* The bytes that a call asks for. Where the product overflows, the call fails, and is no event. */
INLINE u64 size_asked(struct pt_regs *regs, u64 cookie)
{
	u64 size = argument_at(regs, cookie, ML_COOKIE_SIZE), times;

	if (!(cookie >> ML_COOKIE_SIZE & 7))
		size = cookie >> ML_COOKIE_BYTES;
	if (!(cookie >> ML_COOKIE_TIMES & 7))
		return size;
	times = argument_at(regs, cookie, ML_COOKIE_TIMES);
	/* an overflow must not be taken for realloc(p, 0) */
	return size && times && !(size * times) ? ~0ULL : size * times;
}

#endif
