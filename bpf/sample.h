/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Evidence for tests: what a walk started from, so that another unwinder can walk the same bytes.
 * Switched on at load; off, the verifier removes all of it.
 */
#ifndef MEMLEAK_SAMPLE_H
#define MEMLEAK_SAMPLE_H

#include "maps.h"

/* Of how many stacks one is shipped, by chance: a stride could fall in step with the program. */
const volatile u32 sample_every = 0;

/* Ships registers and stack with the hash that the walk came to. */
INLINE void ship_sample(struct pt_regs *regs, u64 hash)
{
	struct ml_sample *sample;
	u64 from = regs->rsp;
	u32 bytes;

	if (!sample_every || bpf_get_prandom_u32() % sample_every)
		return;
	sample = bpf_ringbuf_reserve(&events, sizeof(*sample), 0);
	if (!sample) /* a test that has fewer samples loses nothing */
		return;
	sample->record = ML_RECORD_SAMPLE;
	sample->unused = 0;
	sample->hash = hash;
	sample->rip = regs->rip;
	sample->rsp = from;
	sample->rbp = regs->rbp;
	sample->stack_bytes = 0;
	for (u32 at = 0; at < ML_SAMPLE_STACK; at += 4096) {
		u8 *piece = sample->stack + at;

		if (!bpf_probe_read_user(piece, 4096, (void *)(from + at))) {
			sample->stack_bytes = at + 4096;
			continue;
		}
		/* the end of the stack: what is left of the page */
		bytes = 4096 - (from & 4095);
		if (!bpf_probe_read_user(piece, bytes, (void *)(from + at)))
			sample->stack_bytes = at + bytes;
		break;
	}
	bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
}

#endif
