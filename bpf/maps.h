/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of the probes on programs, and their counters. */
#ifndef MEMLEAK_MAPS_H
#define MEMLEAK_MAPS_H

#include "ring.h"

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
	__uint(max_entries, ML_MAX_SPACES);
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

INLINE void count(u32 counter)
{
	u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value) /* a program may be preempted by another one here */
		__sync_fetch_and_add(value, 1);
}

INLINE struct ml_space *current_space(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	return bpf_map_lookup_elem(&spaces, &pid);
}

/* The number of a new address space. */
INLINE u32 next_space(void)
{
	u32 zero = 0;
	u32 *last = bpf_map_lookup_elem(&last_space, &zero);

	return last ? __sync_fetch_and_add(last, 1) + 1 : 0;
}

#endif
