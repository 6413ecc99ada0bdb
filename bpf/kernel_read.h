/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads words of the kernel's memory. Since 6.2 the verifier can be told that an address is one of a struct,
 * and then a word takes one instruction, which gives 0 where nothing can be read; bpf_probe_read_kernel() takes
 * 30 ns.
 */
#ifndef MEMLEAK_KERNEL_READ_H
#define MEMLEAK_KERNEL_READ_H

#include "kernel_choose.h"

/* The kernel's number of struct pt_regs, which begins with a word; 0: it cannot be told. */
const volatile u32 word_type = 0;

/*
 * A function of the kernel, no helper: aya knows none, so recorder/src/kernel_mode/cast.rs makes the call of
 * this number one of the function, where the kernel has it. Elsewhere it is never reached.
 */
static struct pt_regs *(*bpf_rdonly_cast)(u64 address, u32 type) = (void *)0x0ca57000;

INLINE int can_cast(void)
{
	return word_type != 0;
}

/* A word, where it can be cast; 0 if it cannot be read. */
INLINE u64 word_by_cast(u64 address)
{
	return bpf_rdonly_cast(address, word_type)->r15;
}

/* A word; 0 if it cannot be read. */
INLINE u64 kernel_word(u64 address)
{
	u64 word = 0;

	if (can_cast())
		return word_by_cast(address);
	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

#endif
