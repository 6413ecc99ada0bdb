/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The events of heap, pools and mappings in the ring. */
#ifndef MEMLEAK_EVENTS_H
#define MEMLEAK_EVENTS_H

#include "unwind.h"
#include "stop.h"

INLINE void fill_head(struct ml_point *head, u16 record, u16 op, struct ml_space *space, u64 addr)
{
	head->record = record;
	head->op = op;
	head->space = space->id;
	head->pid = space->pid;
	head->tid = (u32)bpf_get_current_pid_tgid();
	head->addr = addr;
	head->ts = bpf_ktime_get_ns();
}

INLINE void send_point(u16 op, struct ml_space *space, u64 addr)
{
	struct ml_point *point = bpf_ringbuf_reserve(&events, sizeof(*point), 0);

	if (!point) {
		count(ML_LOST_RELEASE_RING_FULL);
		return;
	}
	fill_head(point, ML_RECORD_POINT, op, space, addr);
	bpf_ringbuf_submit(point, wake_flags(sizeof(*point) + 8));
	pause_if_full();
}

INLINE void send_range(u16 op, struct ml_space *space, u64 addr, u64 size)
{
	struct ml_range *range = bpf_ringbuf_reserve(&events, sizeof(*range), 0);

	if (!range) {
		count(ML_LOST_RELEASE_RING_FULL);
		return;
	}
	fill_head(&range->head, ML_RECORD_RANGE, op, space, addr);
	range->size = size;
	bpf_ringbuf_submit(range, wake_flags(sizeof(*range) + 8));
	pause_if_full();
}

INLINE void send_alloc(u16 op, struct ml_space *space, u64 addr, u64 size, u64 stack)
{
	struct ml_alloc *alloc = bpf_ringbuf_reserve(&events, sizeof(*alloc), 0);

	if (!alloc) {
		count(ML_LOST_ALLOC_RING_FULL);
		return;
	}
	fill_head(&alloc->head, ML_RECORD_ALLOC, op, space, addr);
	alloc->size = size;
	alloc->stack = stack;
	bpf_ringbuf_submit(alloc, wake_flags(sizeof(*alloc) + 8));
	pause_if_full();
}

/* An allocation whose function returns at `regs`, behind its stack. */
INLINE void send_with_stack(struct pt_regs *regs, u16 op, struct ml_space *space, u64 addr,
			    u64 size)
{
	u64 stack = record_stack(regs, bpf_get_current_task_btf(), space, space->pid);

	send_alloc(op, space, addr, size, stack);
}

#endif
