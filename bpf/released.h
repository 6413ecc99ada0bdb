/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A release that several functions hand on to each other is told once. */
#ifndef MEMLEAK_RELEASED_H
#define MEMLEAK_RELEASED_H

#include "outermost.h"

/* A thread's last release, where several functions may tell it. */
struct release {
	u64 addr; /* 0: none, or the thread has allocated since */
	u64 sp;
	u64 from; /* its return address */
	u64 function;
};

/* Of the heap, and of a pool. */
struct releases {
	struct release of[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct releases);
} releases SEC(".maps");

/* The thread allocates: the next release of the same address is another one. */
INLINE void forget_release(int pool)
{
	struct releases *last = bpf_task_storage_get(&releases, bpf_get_current_task_btf(), 0, 0);

	if (last)
		last->of[pool].addr = 0;
}

/*
 * Whether a release is told already: another function handed it on, by a jump (then stack pointer and
 * return address are the same) or by a call (then its return address is still where it was).
 */
INLINE int is_told(struct pt_regs *regs, int pool, u32 function, u64 addr)
{
	struct releases *both = bpf_task_storage_get(&releases, bpf_get_current_task_btf(), 0,
						     BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct release *last;

	if (!both)
		return 0;
	last = &both->of[pool];
	if (last->addr == addr && last->function != function && regs->rsp <= last->sp &&
	    stack_word(last->sp) == last->from)
		return 1;
	last->addr = addr;
	last->function = function;
	last->sp = regs->rsp;
	last->from = stack_word(regs->rsp);
	return 0;
}

#endif
