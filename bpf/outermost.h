/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A thread's outermost call, which alone is an event: of the heap's and the kernel's functions one, of
 * a pool's another, whose chunks are allocations of their own.
 */
#ifndef MEMLEAK_OUTERMOST_H
#define MEMLEAK_OUTERMOST_H

#include "arguments.h"
#include "calls.h"

/* The call of a pool's function that a thread has under way; its chunks are allocations of their own. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} pool_calls SEC(".maps");

/* Whether this probe is the one that tells of the process; others may fire beside it. */
INLINE int is_probed_by(struct ml_space *space, u32 cookie)
{
	return space && !(space->flags & ML_SPACE_OWN) == !!(cookie & ML_COOKIE_EVERYWHERE);
}

/*
 * Whether what is entered with its return address at `sp` is called within this call of a pool's: it
 * lies below, or in its very place by a jump, and the kernel's trampoline is where it was. No walk:
 * pools have no handlers' calls to tell apart.
 */
INLINE int is_within(struct call *call, u64 sp)
{
	return call->op && sp <= call->sp && stack_word(call->sp) == trampoline_address();
}

INLINE int within_pool_call(struct pt_regs *regs)
{
	struct call *call = bpf_task_storage_get(&pool_calls, bpf_get_current_task_btf(), 0, 0);

	return call && is_within(call, regs->rsp);
}

/* Begins a pool's outermost call; 0 if this one is nested, or cannot be kept. */
INLINE struct call *push_pool_call(struct pt_regs *regs, u32 function)
{
	struct call *call = bpf_task_storage_get(&pool_calls, bpf_get_current_task_btf(), 0,
						 BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!call) {
		count(ML_LOST_NO_TASK_STORAGE);
		return 0;
	}
	if (is_within(call, regs->rsp))
		return 0;
	call->op = function;
	call->sp = regs->rsp;
	return call;
}

INLINE int pop_pool_call(struct pt_regs *regs, u32 function, struct call *ended)
{
	struct call *call = bpf_task_storage_get(&pool_calls, bpf_get_current_task_btf(), 0, 0);
	u64 sp = regs->rsp - 8; /* at entry */

	if (!call || !call->op)
		return 0;
	if (call->op != function || call->sp != sp) {
		if (sp > call->sp) /* it was left by other means */
			call->op = 0;
		return 0;
	}
	*ended = *call;
	call->op = 0;
	return 1;
}

/* Begins the outermost call; 0 if this one is nested or not to be recorded. */
INLINE struct call *begin_call(struct pt_regs *regs, u64 cookie, int pool)
{
	u32 recording = is_recording();

	if (!recording ||
	    (recording == ML_OPEN_FILTERED && !is_probed_by(current_space(), cookie)))
		return 0;
	return pool ? push_pool_call(regs, function_of(cookie)) : push_call(regs, (u16)cookie);
}

/* The outermost call, if it is the one that returns here; it is over then. */
INLINE int end_call(struct pt_regs *regs, u64 cookie, int pool, struct call *ended)
{
	return pool ? pop_pool_call(regs, function_of(cookie), ended) :
		      pop_call(regs, (u16)cookie, ended);
}

#endif
