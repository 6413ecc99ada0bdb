/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What happens to a process as a whole is told in the ring, at its place among the events. */
#ifndef MEMLEAK_PROCESS_H
#define MEMLEAK_PROCESS_H

#include "maps.h"

/* Tells of a process. Wakes the reader: such things are rare, and others wait for them. */
INLINE void send_process(u16 record, u16 op, u32 space, u32 pid, u32 tid, u64 addr)
{
	struct ml_point *point = bpf_ringbuf_reserve(&events, sizeof(*point), 0);

	if (!point) {
		count(ML_LOST_RELEASE_RING_FULL);
		return;
	}
	point->record = record;
	point->op = op;
	point->space = space;
	point->pid = pid;
	point->tid = tid;
	point->addr = addr;
	point->ts = bpf_ktime_get_ns();
	bpf_ringbuf_submit(point, BPF_RB_FORCE_WAKEUP);
}

#endif
