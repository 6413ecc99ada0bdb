/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every probe needs, on programs and in the kernel: the ring, and whether it is open. */
#ifndef MEMLEAK_RING_H
#define MEMLEAK_RING_H

#include "kernel.h"

/*
 * What programs do goes through this one ring: its order is causal order. What the kernel does, through
 * buffers (kernel_buffer.h). Sized at load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32); /* enum ml_recording */
} control SEC(".maps");

/*
 * Hashes of the stacks that are in the ring already. Four ways per bucket; a stack that was
 * evicted is told again, and user space finds that it knows it.
 */
struct seen_bucket {
	u64 way[4];
};
#define SEEN_BUCKETS (256 * 1024)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SEEN_BUCKETS);
	__type(key, u32);
	__type(value, struct seen_bucket);
} seen SEC(".maps");

/* Its product's high bits depend on all bits of the other factor. */
#define HASH_MULTIPLIER 0x9fb21c651e98df25ULL

/* Adds a frame to the hash of a stack. */
INLINE u64 mix(u64 hash, u64 frame)
{
	hash = (hash ^ frame) * HASH_MULTIPLIER;
	return hash ^ hash >> 29;
}

/* The hash of a whole stack: never 0, which stands for none. */
INLINE u64 mixed(u64 hash)
{
	hash ^= hash >> 32;
	return hash ? hash : 1;
}

/* enum ml_recording */
INLINE u32 recording_state(void)
{
	u32 zero = 0;
	u32 *recording = bpf_map_lookup_elem(&control, &zero);

	return recording ? *(volatile u32 *)recording : ML_CLOSED;
}

/* As above, but ML_CLOSED while nothing is recorded yet. */
INLINE u32 is_recording(void)
{
	u32 recording = recording_state();

	return recording == ML_PREPARING ? ML_CLOSED : recording;
}

/*
 * Wakes the reader once per 64 KiB of records: a wake-up costs more than the rest of an event, and
 * the reader polls anyway.
 */
INLINE u64 wake_flags(u64 bytes)
{
	u64 produced = bpf_ringbuf_query(&events, BPF_RB_PROD_POS);

	return (produced ^ (produced - bytes)) >> 16 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

#endif
