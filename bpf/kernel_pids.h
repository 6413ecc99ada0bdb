/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A recording of the kernel alone: its processes are those that user space names. */
#ifndef MEMLEAK_KERNEL_PIDS_H
#define MEMLEAK_KERNEL_PIDS_H

#include "ring.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32); /* tgid */
	__type(value, u32);
} chosen_pids SEC(".maps");

INLINE int is_chosen_process(u32 pid)
{
	return bpf_map_lookup_elem(&chosen_pids, &pid) != 0;
}

#endif
