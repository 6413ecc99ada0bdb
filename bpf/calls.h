/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The calls that a thread has under way: which one is its outermost.
 *
 * A call that is still under way lies on the stack, and where its return address was, there is the
 * kernel's trampoline. So a new call is nested in it exactly if the walk from the new one meets that
 * place. A call that was left by longjmp, or by the end of a cancelled thread, is met by no walk. If
 * the walk comes through a signal's frame first, the new call is the program's own, made by a handler
 * while the other one was interrupted.
 *
 * The stack pointer alone cannot tell: what is called after a longjmp may lie deeper than what was
 * left, a handler's stack anywhere.
 */
#ifndef MEMLEAK_CALLS_H
#define MEMLEAK_CALLS_H

#include "unwind.h"

/* A call under way. */
struct call {
	u64 sp; /* at entry: points to the return address */
	u64 addr;
	u64 size;
	u64 old; /* what a reallocation was called with */
	u64 out; /* where posix_memalign puts its result */
	u32 op;	 /* enum ml_op; of a pool's: the function's number */
	u32 unused;
};

/* A handler may interrupt a call, and another one the handler's; a power of two. */
#define MAX_CALLS 4

/* The outermost call, then those of handlers, each of which interrupted the one before. */
struct calls {
	u32 depth;
	u32 unused;
	struct call stack[MAX_CALLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct calls);
} calls SEC(".maps");

/* The kernel's, as far as the trampoline's address is concerned; flavours. */
struct xol_area {
	u64 vaddr;
} RELOCATED;

struct uprobes_state {
	struct xol_area *xol_area;
} RELOCATED;

struct mm_struct {
	struct uprobes_state uprobes_state;
} RELOCATED;

struct task_struct___calls {
	struct mm_struct *mm;
} RELOCATED;

/* Where the kernel lets probed functions return to; 0 if it cannot be read. */
INLINE u64 trampoline_address(void)
{
	struct task_struct___calls *task = (void *)bpf_get_current_task_btf();
	struct mm_struct *mm = 0;
	struct xol_area *area = 0;
	u64 address = 0;

	if (READ(mm, task->mm) || !mm || READ(area, mm->uprobes_state.xol_area) || !area ||
	    READ(address, area->vaddr))
		return 0;
	return address;
}

/* A walk in search of a call under way. It lies on the BPF stack: see struct walk. */
struct search {
	struct walk walk;
	u64 trampoline;
	u32 signals; /* whether it came through the frame of one */
	u32 unused;
};

/* What lies at an address of the stack; 0 if it cannot be read. */
INLINE u64 stack_word(u64 address)
{
	u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (void *)address); /* which leaves 0 where it fails */
	return word;
}

/*
 * Callback of bpf_loop: one frame. Returns 1 to stop. As step() goes, but word by word: it is short,
 * and seldom run.
 */
static long search_frame(u32 index, struct search *s)
{
	struct walk *w = &s->walk;
	struct cached_frame *known = find_frame(w);
	u64 cfa, offset;
	u16 rule;

	w->end = ML_END_NO_MAPPING;
	if (!known)
		return 1;
	rule = known->rule;
	offset = 8 * (u64)known->cfa_offset;
	w->end = ML_END_NO_UNWIND_INFO;
	w->exact = 0;
	switch (rule & 7) {
	case ML_UNWIND_END:
		w->end = ML_END_COMPLETE;
		return 1;
	case ML_UNWIND_SP:
		cfa = w->sp + offset;
		break;
	case ML_UNWIND_SP_FAR:
		cfa = w->sp + offset + ((u64)(rule >> 6) << 19);
		rule &= 7 << 3;
		break;
	case ML_UNWIND_BP:
		cfa = w->bp + offset;
		break;
	case ML_UNWIND_BP_DEREF:
		cfa = stack_word(w->bp - offset);
		w->bp = stack_word(w->bp);
		break;
	case ML_UNWIND_SIGNAL: /* ucontext: rbp at 120, rsp at 160, rip at 168 */
		w->bp = stack_word(w->sp + 120);
		w->pc = stack_word(w->sp + 168);
		w->sp = stack_word(w->sp + 160);
		w->exact = 1;
		s->signals = 1;
		return w->pc - s->trampoline < PAGE;
	default:
		return 1;
	}
	if (cfa <= w->sp)
		return 1;
	if (rule >> 3)
		w->bp = stack_word(cfa - 8 * (u64)(rule >> 3));
	w->pc = stack_word(cfa - 8);
	w->sp = cfa;
	w->end = ML_END_TOO_DEEP;
	return w->pc - s->trampoline < PAGE;
}

/* Bytes that the trampoline may have pushed when a signal interrupted it. */
#define TRAMPOLINE_STACK 24

/* The position of the call whose return address the walk has met, from 1; 0 for none. */
INLINE u32 call_met(struct search *s, struct calls *own)
{
	u32 found = 0;

	if (s->walk.pc - s->trampoline >= PAGE)
		return 0;
	for (u32 i = 0; i < MAX_CALLS; i++) {
		u64 pushed = own->stack[i].sp + 8 - s->walk.sp;

		if (i < own->depth && (!pushed || (s->walk.exact && pushed <= TRAMPOLINE_STACK)))
			found = i + 1;
	}
	return found;
}

/*
 * Whether the function entered with these registers is called within a call under way. Those that are
 * found not to be under way are forgotten. Call it if there are any: it is a global function, which
 * the verifier checks once and not on every path that leads to it.
 */
__attribute__((noinline)) int settle_calls(u64 sp, u64 bp)
{
	struct calls *own = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	struct search s = {};
	u64 trampoline = trampoline_address(), ret = stack_word(sp);
	struct call *last;
	struct ml_space *space;
	u32 found;

	if (!own || !own->depth)
		return 0;
	last = &own->stack[(own->depth - 1) & (MAX_CALLS - 1)];
	if (last->sp == sp) {
		/* a jump leaves the return address, a call writes a new one */
		if (ret == trampoline)
			return 1;
		own->depth--;
		if (!own->depth)
			return 0;
	}
	last = &own->stack[(own->depth - 1) & (MAX_CALLS - 1)];
	s.walk.scratch = bpf_task_storage_get(&scratches, bpf_get_current_task_btf(), 0,
					      BPF_LOCAL_STORAGE_GET_F_CREATE);
	space = current_space();
	if (s.walk.scratch && space) {
		s.walk.table_index = space->table;
		s.walk.table = bpf_map_lookup_elem(&mapping_tables, &s.walk.table_index);
	}
	if (s.walk.table) {
		s.trampoline = trampoline;
		s.walk.pc = ret;
		s.walk.sp = sp + 8;
		s.walk.bp = bp;
		bpf_loop(ML_MAX_FRAMES, search_frame, &s, 0);
		found = call_met(&s, own);
		if (found) {
			own->depth = found;
			return !s.signals;
		}
		if (s.walk.end == ML_END_COMPLETE) {
			own->depth = 0;
			return 0;
		}
		if (s.signals)
			return 0;
	}
	/* the walk came to no end: by the stack pointer, and the return address where it was */
	if (sp < last->sp && stack_word(last->sp) == trampoline)
		return 1;
	own->depth = 0;
	return 0;
}

/* Begins an outermost call; 0 if this one is nested, or cannot be kept. */
INLINE struct call *push_call(struct pt_regs *regs, u32 op)
{
	struct calls *own = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0,
						 BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct call *call;

	if (!own) {
		count(ML_LOST_NO_TASK_STORAGE);
		return 0;
	}
	if (own->depth && settle_calls(regs->rsp, regs->rbp))
		return 0;
	if (own->depth >= MAX_CALLS) { /* none of them may be under way any more: go on from here */
		count(ML_LOST_NO_TASK_STORAGE);
		own->depth = 0;
	}
	call = &own->stack[own->depth & (MAX_CALLS - 1)];
	own->depth++;
	call->op = op;
	call->sp = regs->rsp;
	return call;
}

/* Whether an allocation call of this thread is under way, and the one entered now within it. */
INLINE int within_call(struct pt_regs *regs)
{
	struct calls *own = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);

	return own && own->depth && settle_calls(regs->rsp, regs->rbp);
}

/*
 * The call that returns with `regs`, if it is an outermost one; it is over then. A jump at a
 * function's end returns through the return probes of both, the inner one first.
 */
INLINE int pop_call(struct pt_regs *regs, u32 op, struct call *ended)
{
	struct calls *own = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	u64 sp = regs->rsp - 8; /* at entry */

	if (!own)
		return 0;
	for (u32 i = MAX_CALLS; i > 0; i--) {
		struct call *call = &own->stack[i - 1];

		if (i <= own->depth && call->sp == sp && call->op == op) {
			*ended = *call;
			own->depth = i - 1;
			return 1;
		}
	}
	return 0;
}

#endif
