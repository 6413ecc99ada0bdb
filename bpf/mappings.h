/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the program maps, and what it takes from the end of the data segment. What an allocator or the
 * loader does there is its own.
 */
#ifndef MEMLEAK_MAPPINGS_H
#define MEMLEAK_MAPPINGS_H

#include "caller.h"
#include "events.h"
#include "outermost.h"
#include "selection.h"

const volatile u64 page_size = 4096;

INLINE u64 whole_pages(u64 bytes)
{
	return (bytes + page_size - 1) & ~(page_size - 1);
}

#define MAP_STACK 0x20000
#define MREMAP_DONTUNMAP 4 /* the old range stays mapped */

SEC("uprobe/enter_map")
int enter_map(struct pt_regs *regs)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	u16 op = (u16)cookie;
	struct ml_space *space = current_space();
	struct call *call;
	u64 second, third;
	int inside;

	if (counting || !is_recording() || !is_probed_by(space, cookie) || within_call(regs))
		return 0;
	/* free() calls munmap, and has no return probe that would tell */
	inside = caller_flags(regs, space) & ML_MAPPING_INNER;
	if (inside && op == ML_OP_MUNMAP) {
		/* a thread's stack, or the allocator's own: the replay knows which */
		send_range(ML_OP_MUNMAP_INNER, space, regs->rdi, whole_pages(regs->rsi));
		return 0;
	}
	/* of what libc maps for itself, a thread's stack alone is the program's */
	if (inside && !(op == ML_OP_MMAP && regs->rcx & MAP_STACK))
		return 0;
	call = begin_call(regs, cookie, 0);
	if (!call)
		return 0;
	second = REGISTER(regs, rsi);
	third = REGISTER(regs, rdx);
	call->addr = regs->rdi;
	call->size = whole_pages(op == ML_OP_MREMAP ? third : second);
	if (op == ML_OP_MUNMAP)
		send_range(ML_OP_MUNMAP, space, call->addr, call->size);
	else if (op == ML_OP_MREMAP && !(regs->rcx & MREMAP_DONTUNMAP))
		send_range(ML_OP_MREMAP_RELEASE, space, call->addr, whole_pages(second));
	return 0;
}

/* A flavour: the kernel's mm_struct and task_struct, of which these are known here. */
struct mm_struct___break {
	unsigned long brk;
} RELOCATED;

struct task_struct___break {
	struct mm_struct___break *mm;
} RELOCATED;

/* Where the data segment ends now. */
INLINE u64 current_break(void)
{
	struct task_struct___break *task = (void *)bpf_get_current_task_btf();
	struct mm_struct___break *mm = 0;
	unsigned long end = 0;

	READ(mm, task->mm);
	if (mm)
		READ(end, mm->brk);
	return end;
}

/* brk and sbrk: what the allocator asks for is its own, as with mmap. */
SEC("uprobe/enter_break")
int enter_break(struct pt_regs *regs)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	struct ml_space *space = current_space();
	struct call *call;

	if (counting || !is_recording() || !is_probed_by(space, cookie) || within_call(regs))
		return 0;
	if (caller_flags(regs, space) & ML_MAPPING_INNER)
		return 0;
	call = begin_call(regs, cookie, 0);
	if (call)
		call->addr = current_break();
	return 0;
}

SEC("uretprobe/leave_map")
int leave_map(struct pt_regs *regs)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	u16 op = (u16)cookie;
	struct call call;
	struct ml_space *space;
	u64 result = regs->rax;

	if (!end_call(regs, cookie, 0, &call) || !is_recording())
		return 0;
	space = current_space();
	if (!space)
		return 0;
	if (op == ML_OP_MUNMAP) {
		if ((u32)result)
			send_point(ML_OP_MUNMAP_FAILED, space, call.addr);
		return 0;
	}
	if (op == ML_OP_BRK) {
		u64 end = current_break();

		if (call.addr && end && end < call.addr)
			send_range(ML_OP_BRK_SHRINK, space, end, call.addr - end);
		if (!call.addr || end <= call.addr)
			return 0;
		result = call.addr;
		call.size = end - call.addr;
	} else if (result == ~0ULL) { /* MAP_FAILED */
		if (op == ML_OP_MREMAP)
			send_point(ML_OP_MREMAP_FAILED, space, call.addr);
		return 0;
	}
	/* in one place: the verifier follows the walk from each */
	send_with_stack(regs, op, space, result, call.size);
	return 0;
}

#endif
