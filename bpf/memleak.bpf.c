// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Probes on the allocation functions of a process.
 *
 * One program per shape of function; the attach cookie says which function (enum ml_op). Only the
 * outermost call of a thread is an event: malloc may call mmap, calloc sbrk, realloc anything.
 * A release is told at entry, before another thread can be given the address; an allocation at
 * return, when the address is known.
 */
#include "calls.h"
#include "stop.h"
#include "exit.h"
#include "selection.h"
#include "maps_changed.h"

const volatile u64 page_size = 4096;

/* Whether this probe is the one that tells of the process; others may fire beside it. */
INLINE int is_probed_by(struct ml_space *space, u32 cookie)
{
	return space && !(space->flags & ML_SPACE_OWN) == !!(cookie & ML_COOKIE_EVERYWHERE);
}

/* Begins the outermost call; 0 if this one is nested or not to be recorded. */
INLINE struct call *begin_call(struct pt_regs *regs, u32 cookie)
{
	u32 recording = is_recording();
	u16 op = cookie;

	if (!recording ||
	    (recording == ML_OPEN_FILTERED && !is_probed_by(current_space(), cookie)))
		return 0;
	return push_call(regs, op);
}

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

SEC("uprobe/enter_alloc")
int enter_alloc(struct pt_regs *regs)
{
	u32 cookie = (u32)bpf_get_attach_cookie(regs);
	u16 op = cookie;
	struct call *call = begin_call(regs, cookie);

	if (!call)
		return 0;
	call->addr = 0;
	switch (op) {
	case ML_OP_MALLOC:
	case ML_OP_VALLOC:
	case ML_OP_PVALLOC:
		call->size = regs->rdi;
		break;
	case ML_OP_CALLOC:
		/* no overflow: such a call fails, and is no event */
		call->size = regs->rdi * regs->rsi;
		break;
	case ML_OP_POSIX_MEMALIGN:
		call->out = regs->rdi;
		call->size = regs->rdx;
		break;
	default: /* aligned_alloc, memalign */
		call->size = regs->rsi;
	}
	return 0;
}

SEC("uprobe/enter_realloc")
int enter_realloc(struct pt_regs *regs)
{
	u32 cookie = (u32)bpf_get_attach_cookie(regs);
	u16 op = cookie;
	struct call *call = begin_call(regs, cookie);
	struct ml_space *space = current_space();

	if (!call)
		return 0;
	call->addr = regs->rdi;
	call->size = regs->rsi;
	if (op == ML_OP_REALLOCARRAY) {
		call->size *= regs->rdx;
		/* an overflow fails; it must not be taken for realloc(p, 0) */
		if (!call->size && regs->rsi && regs->rdx)
			call->size = ~0ULL;
	}
	if (!call->addr || !space)
		return 0;
	if (forget_block(space->id, call->addr))
		send_point(ML_OP_REALLOC_RELEASE, space, call->addr);
	else
		call->addr = 0; /* it was left out: as if there were no old block */
	return 0;
}

SEC("uretprobe/leave_alloc")
int leave_alloc(struct pt_regs *regs)
{
	u16 op = (u16)bpf_get_attach_cookie(regs);
	struct call call;
	struct ml_space *space;
	u64 addr = regs->rax;
	int is_realloc = op == ML_OP_REALLOC || op == ML_OP_REALLOCARRAY;

	if (!pop_call(regs, op, &call) || !is_recording())
		return 0;
	space = current_space();
	if (!space)
		return 0;
	if (op == ML_OP_POSIX_MEMALIGN) {
		/* an errno, and the address at the place that the caller named */
		if ((u32)regs->rax || bpf_probe_read_user(&addr, sizeof(addr), (void *)call.out))
			return 0;
	}
	if (!addr && is_realloc && call.addr) {
		/* realloc(p, 0) freed the block; any other NULL left it alone */
		if (call.size) {
			remember_block(space->id, call.addr);
			send_point(ML_OP_REALLOC_FAILED, space, call.addr);
		} else {
			send_alloc(op, space, 0, 0, 0);
		}
		return 0;
	}
	if (!addr)
		return 0;
	if (choose_block(space->id, addr, call.size)) {
		send_with_stack(regs, op, space, addr, call.size);
		return 0;
	}
	if (is_realloc && call.addr) /* the old block is freed, the new one left out */
		send_alloc(op, space, 0, 0, 0);
	if (replaces_recorded(space->id, addr))
		send_point(ML_OP_FREE, space, addr);
	return 0;
}

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

SEC("uprobe/enter_free")
int enter_free(struct pt_regs *regs)
{
	u32 cookie = (u32)bpf_get_attach_cookie(regs);
	u16 op = cookie;
	struct ml_space *space;

	if (!regs->rdi || !is_recording() || within_call(regs))
		return 0;
	space = current_space();
	if (!is_probed_by(space, cookie))
		return 0;
	/* free has no return probe that would tell that another free called it */
	if (cookie & ML_COOKIE_CHECK_CALLER && caller_flags(regs, space) & ML_MAPPING_WRAPPER)
		return 0;
	if (forget_block(space->id, regs->rdi))
		send_point(op, space, regs->rdi);
	return 0;
}

INLINE u64 whole_pages(u64 bytes)
{
	return (bytes + page_size - 1) & ~(page_size - 1);
}

#define MAP_STACK 0x20000
#define MREMAP_DONTUNMAP 4 /* the old range stays mapped */

SEC("uprobe/enter_map")
int enter_map(struct pt_regs *regs)
{
	u32 cookie = (u32)bpf_get_attach_cookie(regs);
	u16 op = cookie;
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
	call = begin_call(regs, cookie);
	if (!call)
		return 0;
	/* volatile: else clang picks the register by address, which the verifier forbids */
	second = *(volatile u64 *)&regs->rsi;
	third = *(volatile u64 *)&regs->rdx;
	call->addr = regs->rdi;
	call->size = whole_pages(op == ML_OP_MREMAP ? third : second);
	if (op == ML_OP_MUNMAP)
		send_range(ML_OP_MUNMAP, space, call->addr, call->size);
	else if (op == ML_OP_MREMAP && !(regs->rcx & MREMAP_DONTUNMAP))
		send_range(ML_OP_MREMAP_RELEASE, space, call->addr, whole_pages(second));
	return 0;
}

SEC("uretprobe/leave_map")
int leave_map(struct pt_regs *regs)
{
	u16 op = (u16)bpf_get_attach_cookie(regs);
	struct call call;
	struct ml_space *space;
	u64 result = regs->rax;

	if (!pop_call(regs, op, &call) || !is_recording())
		return 0;
	space = current_space();
	if (!space)
		return 0;
	if (op == ML_OP_MUNMAP) {
		if ((u32)result)
			send_point(ML_OP_MUNMAP_FAILED, space, call.addr);
	} else if (result == ~0ULL) { /* MAP_FAILED */
		if (op == ML_OP_MREMAP)
			send_point(ML_OP_MREMAP_FAILED, space, call.addr);
	} else {
		send_with_stack(regs, op, space, result, call.size);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
