// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Probes on the allocation functions of a process.
 *
 * One program per shape of function; the attach cookie says which function (enum ml_op). Only the
 * outermost call of a thread is an event: malloc may call mmap, calloc sbrk, realloc anything.
 * A release is told at entry, before another thread can be given the address; an allocation at
 * return, when the address is known.
 */
#include "exit.h"
#include "mappings.h"
#include "maps_changed.h"
#include "released.h"

INLINE int enters_alloc(struct pt_regs *regs, int pool)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	struct call *call = begin_call(regs, cookie, pool);

	if (!call)
		return 0;
	if (cookie & ML_COOKIE_SEVERAL)
		forget_release(pool);
	call->addr = 0;
	call->size = size_asked(regs, cookie);
	call->out = argument_at(regs, cookie, ML_COOKIE_OUT);
	return 0;
}

SEC("uprobe/enter_alloc")
int enter_alloc(struct pt_regs *regs)
{
	return enters_alloc(regs, 0);
}

SEC("uprobe/enter_pool_alloc")
int enter_pool_alloc(struct pt_regs *regs)
{
	return enters_alloc(regs, 1);
}

/* Whether a release is to be told. Pools are recorded whole: selection is about heap blocks. */
INLINE int tells_release(int pool, struct ml_space *space, u64 addr)
{
	return pool ? !counting : forget_block(space->id, addr);
}

INLINE int enters_realloc(struct pt_regs *regs, int pool)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	struct call *call = begin_call(regs, cookie, pool);
	struct ml_space *space = current_space();

	if (!call)
		return 0;
	if (cookie & ML_COOKIE_SEVERAL)
		forget_release(pool);
	call->addr = argument_at(regs, cookie, ML_COOKIE_PTR);
	call->old = call->addr;
	call->size = size_asked(regs, cookie);
	call->out = 0;
	if (!call->addr || !space)
		return 0;
	if (tells_release(pool, space, call->addr))
		send_point(pool ? ML_OP_POOL_REALLOC_RELEASE : ML_OP_REALLOC_RELEASE, space,
			   call->addr);
	else
		call->addr = 0; /* it was left out: as if there were no old block */
	return 0;
}

SEC("uprobe/enter_realloc")
int enter_realloc(struct pt_regs *regs)
{
	return enters_realloc(regs, 0);
}

SEC("uprobe/enter_pool_realloc")
int enter_pool_realloc(struct pt_regs *regs)
{
	return enters_realloc(regs, 1);
}

/* A new block, if it is to be recorded; `old`: it takes the place of another one, which was. */
INLINE void send_new_block(struct pt_regs *regs, u16 op, struct ml_space *space, u64 addr,
			   u64 size, u64 old)
{
	if (choose_block(space->id, addr, size)) {
		send_with_stack(regs, op, space, addr, size);
		return;
	}
	if (old) /* the old block is freed, the new one left out */
		send_alloc(op, space, 0, 0, 0);
	if (replaces_recorded(space->id, addr))
		send_point(ML_OP_FREE, space, addr);
}

INLINE int leaves_alloc(struct pt_regs *regs, int pool)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	u16 op = (u16)cookie;
	struct call call;
	struct ml_space *space;
	u64 addr = regs->rax;

	if (!end_call(regs, cookie, pool, &call) || !is_recording())
		return 0;
	space = current_space();
	if (!space)
		return 0;
	if (call.out) {
		/* an errno, and the address at the place that the caller named */
		if ((u32)regs->rax || bpf_probe_read_user(&addr, sizeof(addr), (void *)call.out))
			return 0;
	}
	if (!addr && call.addr) {
		/* realloc(p, 0) freed the block; any other NULL left it alone */
		if (!call.size || cookie & ML_COOKIE_FAILURE_FREES) {
			send_alloc(op, space, 0, 0, 0);
			return 0;
		}
		if (!pool)
			remember_block(space->id, call.addr);
		send_point(pool ? ML_OP_POOL_REALLOC_FAILED : ML_OP_REALLOC_FAILED, space,
			   call.addr);
		return 0;
	}
	if (!addr)
		return 0;
	if (!pool)
		send_new_block(regs, op, space, addr, call.size, call.addr);
	else if (!counting)
		send_with_stack(regs, op, space, addr, call.size);
	return 0;
}

SEC("uretprobe/leave_alloc")
int leave_alloc(struct pt_regs *regs)
{
	return leaves_alloc(regs, 0);
}

SEC("uretprobe/leave_pool_alloc")
int leave_pool_alloc(struct pt_regs *regs)
{
	return leaves_alloc(regs, 1);
}

/* xallocx: the block stays where it is, and the result is how large it is now. */
SEC("uretprobe/leave_resize")
int leave_resize(struct pt_regs *regs)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	struct call call;
	struct ml_space *space;

	if (!end_call(regs, cookie, 0, &call) || !is_recording())
		return 0;
	space = current_space();
	if (!space || !call.old)
		return 0;
	if (regs->rax >= call.size) {
		send_new_block(regs, (u16)cookie, space, call.old, call.size, call.addr);
	} else if (call.addr) {
		remember_block(space->id, call.addr);
		send_point(ML_OP_REALLOC_FAILED, space, call.addr);
	}
	return 0;
}

INLINE int enters_free(struct pt_regs *regs, int pool)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	u64 addr = argument_at(regs, cookie, ML_COOKIE_PTR);
	struct ml_space *space;

	if (!addr || !is_recording() || (pool ? within_pool_call(regs) : within_call(regs)))
		return 0;
	space = current_space();
	if (!is_probed_by(space, cookie))
		return 0;
	/* free has no return probe that would tell that another free called it */
	if (cookie & ML_COOKIE_CHECK_CALLER && caller_flags(regs, space) & ML_MAPPING_WRAPPER)
		return 0;
	if (cookie & ML_COOKIE_SEVERAL && is_told(regs, pool, function_of(cookie), addr))
		return 0;
	if (tells_release(pool, space, addr))
		send_point((u16)cookie, space, addr);
	return 0;
}

SEC("uprobe/enter_free")
int enter_free(struct pt_regs *regs)
{
	return enters_free(regs, 0);
}

SEC("uprobe/enter_pool_free")
int enter_pool_free(struct pt_regs *regs)
{
	return enters_free(regs, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
