/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps, and the counters. */
#ifndef MEMLEAK_MAPS_H
#define MEMLEAK_MAPS_H

#include "kernel.h"

/* Every record goes through this one ring: its order is causal order. Sized at load. */
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

/* Address spaces so far: the id of the last one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} last_space SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_COUNTERS);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ML_MAX_PROCESSES);
	__type(key, u32); /* tgid */
	__type(value, struct ml_space);
} spaces SEC(".maps");

/* The empty table, then two per process. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 + 2 * ML_MAX_PROCESSES);
	__type(key, u32);
	__type(value, struct ml_mapping_table);
} mapping_tables SEC(".maps");

/* Unwind rows of all files, one file after the other, each sorted by pc. Sized at load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ml_unwind_row);
} unwind_rows SEC(".maps");

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

INLINE void count(u32 counter)
{
	u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value) /* a program may be preempted by another one here */
		__sync_fetch_and_add(value, 1);
}

/* enum ml_recording */
INLINE u32 is_recording(void)
{
	u32 zero = 0;
	u32 *recording = bpf_map_lookup_elem(&control, &zero);

	return recording ? *(volatile u32 *)recording : ML_CLOSED;
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
