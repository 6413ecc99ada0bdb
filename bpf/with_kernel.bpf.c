// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The probes on programs and those in the kernel in one object: they fill one ring, by one clock.
 * Chosen in the kernel is what the recorded processes allocate.
 */
#include "memleak.bpf.c"

/*
 * A child that shares its parent's memory until it executes a program (vfork) has no probes of its
 * own, but kernel objects of its own: they are told where children are recorded.
 */
INLINE int is_chosen_process(u32 pid)
{
	struct ml_space *space = bpf_map_lookup_elem(&spaces, &pid);

	return space && (follow || !(space->flags & ML_SPACE_ALIAS));
}

#include "kernel_alloc.h"
#include "kernel_bulk.h"
