/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which heap blocks are recorded: by size, and by chance.
 *
 * The free of a block that was left out is left out too: the addresses of recorded blocks are kept
 * in a set. A block is in it before its allocation returns to the program, and out of it when its
 * release is entered: in between the address is this block's alone, whatever other threads do.
 *
 * shared/src/selection.rs says what the numbers mean, and computes the same in Rust.
 */
#ifndef MEMLEAK_SELECTION_H
#define MEMLEAK_SELECTION_H

#include "maps.h"

/* 0: everything is recorded, and nothing below is ever asked. */
const volatile u32 selecting = 0;
const volatile u64 least_size = 0;
const volatile u64 most_size = ~0ULL;
const volatile u64 sampling_threshold = 1ULL << 32; /* 0: by the size */
const volatile u64 sampling_scale = 0;
const volatile u64 sampling_certain_size = 0;
const volatile u64 exponentials[ML_EXPONENTIALS] = {};

/* --estimate: nothing is recorded, calls are counted. */
const volatile u32 counting = 0;

/* Allocations by the bits of their size; the last one: releases. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_TALLIES);
	__type(key, u32);
	__type(value, struct ml_tally);
} tallies SEC(".maps");

INLINE void tally(u32 index, u64 size)
{
	struct ml_tally *sum = bpf_map_lookup_elem(&tallies, &index);

	if (sum) {
		__sync_fetch_and_add(&sum->count, 1);
		__sync_fetch_and_add(&sum->bytes, size);
	}
}

/* Bits of a size: 0 for 0, else 1 + the place of the highest one; at most that of the last tally. */
INLINE u32 bits_of(u64 size)
{
	u32 bits = 0;

	if (size >> 32)
		bits += 32, size >>= 32;
	if (size >> 16)
		bits += 16, size >>= 16;
	if (size >> 8)
		bits += 8, size >>= 8;
	if (size >> 4)
		bits += 4, size >>= 4;
	if (size >> 2)
		bits += 2, size >>= 2;
	bits += size > 1 ? 2 : size;
	return bits < ML_TALLY_RELEASES ? bits : ML_TALLY_RELEASES - 1;
}

/* The recorded blocks that are live. Sized at load, and only where something is left out. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct ml_block);
	__type(value, u8);
} recorded_blocks SEC(".maps");

/* The set was full once: a block that is not in it may be recorded all the same. */
u32 set_overflown = 0;

#define CERTAIN (1ULL << 32)

/* The product of two numbers of at most 1 with 63 binary places. */
INLINE u64 product(u64 a, u64 b)
{
	u64 a_high = a >> 32, a_low = (u32)a, b_high = b >> 32, b_low = (u32)b;

	return (a_high * b_high + ((a_high * b_low) >> 32) + ((a_low * b_high) >> 32)) << 1;
}

/* 2^32 times the probability with which a block of `size` bytes is recorded. */
INLINE u64 recording_threshold(u64 size)
{
	u64 exponent, rest, missed, threshold;

	if (sampling_threshold)
		return sampling_threshold;
	if (size >= sampling_certain_size)
		return CERTAIN;
	exponent = (size ? size : 1) * sampling_scale;
	rest = (exponent & ((1ULL << 40) - 1)) << 7;
	missed = (1ULL << 63) - rest + (product(rest, rest) >> 1);
	missed = product(missed, exponentials[(exponent >> 56) & 31]);
	missed = product(missed, exponentials[32 + ((exponent >> 48) & 255)]);
	missed = product(missed, exponentials[288 + ((exponent >> 40) & 255)]);
	threshold = CERTAIN - ((missed + (1ULL << 30)) >> 31);
	return threshold ? threshold : 1;
}

/* Puts a recorded block into the set. */
INLINE void remember_block(u32 space, u64 addr)
{
	struct ml_block block = { .addr = addr, .space = space };
	u8 present = 1;

	if (!selecting)
		return;
	/* memory for it comes from a pool that may be empty for a moment: ask twice */
	if (bpf_map_update_elem(&recorded_blocks, &block, &present, 0) &&
	    bpf_map_update_elem(&recorded_blocks, &block, &present, 0)) {
		*(volatile u32 *)&set_overflown = 1;
		count(ML_DEFECT_SET_FULL);
	}
}

/* Whether the block that is released was recorded; it is out of the set then. */
INLINE int forget_block(u32 space, u64 addr)
{
	struct ml_block block = { .addr = addr, .space = space };

	if (counting) {
		tally(ML_TALLY_RELEASES, 0);
		return 0;
	}
	if (!selecting)
		return 1;
	/* most are not in it: looking takes no lock */
	if (!bpf_map_lookup_elem(&recorded_blocks, &block))
		return *(volatile u32 *)&set_overflown;
	bpf_map_delete_elem(&recorded_blocks, &block);
	return 1;
}

/* Whether a new block is to be recorded; then it is in the set. */
INLINE int choose_block(u32 space, u64 addr, u64 size)
{
	if (counting) {
		tally(bits_of(size), size);
		return 0;
	}
	if (!selecting)
		return 1;
	if (size < least_size || size > most_size ||
	    bpf_get_prandom_u32() >= recording_threshold(size))
		return 0;
	remember_block(space, addr);
	return 1;
}

/*
 * Whether a block that is left out lies where a recorded one is thought to be: the release of that
 * one was not seen. Without the set an event at the same address tells so.
 */
INLINE int replaces_recorded(u32 space, u64 addr)
{
	struct ml_block block = { .addr = addr, .space = space };

	return bpf_map_lookup_elem(&recorded_blocks, &block) && forget_block(space, addr);
}

#endif
