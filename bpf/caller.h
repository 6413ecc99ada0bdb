/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who calls a probed function: a program, or another allocator. */
#ifndef MEMLEAK_CALLER_H
#define MEMLEAK_CALLER_H

#include "unwind.h"

/* Flags of the module that holds the return address at the top of the stack. */
INLINE u16 caller_flags(struct pt_regs *regs, struct ml_space *space)
{
	u32 index = space->table;
	struct ml_mapping_table *table = bpf_map_lookup_elem(&mapping_tables, &index);
	struct ml_mapping *mapping;
	u64 caller;

	if (!table || bpf_probe_read_user(&caller, sizeof(caller), (void *)regs->rsp))
		return 0;
	mapping = find_mapping(table, index, caller);
	return mapping ? mapping->flags : 0;
}

#endif
