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

/* The call of a pool's function that a thread has under way; its chunks are allocations of their own. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} pool_calls SEC(".maps");

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

const volatile u64 page_size = 4096;

INLINE u32 function_of(u64 cookie)
{
	return cookie >> ML_COOKIE_FUNCTION & 0xffff;
}

/* In assembly: else clang picks the register by address, which the verifier forbids. */
#define REGISTER(regs, name)                                                                       \
	({                                                                                         \
		u64 value_;                                                                        \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                                              \
			     : "=r"(value_)                                                        \
			     : "r"(regs), "i"(__builtin_offsetof(struct pt_regs, name)));          \
		value_;                                                                            \
	})

/* The argument whose number the cookie has at `shift`. */
INLINE u64 argument(struct pt_regs *regs, u64 cookie, u32 shift)
{
	switch (cookie >> shift & 7) {
	case 1:
		return REGISTER(regs, rdi);
	case 2:
		return REGISTER(regs, rsi);
	case 3:
		return REGISTER(regs, rdx);
	case 4:
		return REGISTER(regs, rcx);
	case 5:
		return REGISTER(regs, r8);
	case 6:
		return REGISTER(regs, r9);
	}
	return 0;
}

/* The bytes that a call asks for. Where the product overflows, the call fails, and is no event. */
INLINE u64 size_asked(struct pt_regs *regs, u64 cookie)
{
	u64 size = argument(regs, cookie, ML_COOKIE_SIZE), times;

	if (!(cookie >> ML_COOKIE_SIZE & 7))
		size = cookie >> ML_COOKIE_BYTES;
	if (!(cookie >> ML_COOKIE_TIMES & 7))
		return size;
	times = argument(regs, cookie, ML_COOKIE_TIMES);
	/* an overflow must not be taken for realloc(p, 0) */
	return size && times && !(size * times) ? ~0ULL : size * times;
}

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

/* The thread allocates: the next release of the same address is another one. */
INLINE void forget_release(int pool)
{
	struct releases *last = bpf_task_storage_get(&releases, bpf_get_current_task_btf(), 0, 0);

	if (last)
		last->of[pool].addr = 0;
}

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
	call->out = argument(regs, cookie, ML_COOKIE_OUT);
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
	call->addr = argument(regs, cookie, ML_COOKIE_PTR);
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

INLINE int enters_free(struct pt_regs *regs, int pool)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	u64 addr = argument(regs, cookie, ML_COOKIE_PTR);
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
	} else if (result == ~0ULL) { /* MAP_FAILED */
		if (op == ML_OP_MREMAP)
			send_point(ML_OP_MREMAP_FAILED, space, call.addr);
	} else {
		send_with_stack(regs, op, space, result, call.size);
	}
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

SEC("uretprobe/leave_break")
int leave_break(struct pt_regs *regs)
{
	u64 cookie = bpf_get_attach_cookie(regs), end;
	struct call call;
	struct ml_space *space;

	if (!end_call(regs, cookie, 0, &call) || !is_recording())
		return 0;
	space = current_space();
	end = current_break();
	if (!space || !call.addr || !end)
		return 0;
	if (end > call.addr)
		send_with_stack(regs, ML_OP_BRK, space, call.addr, end - call.addr);
	else if (end < call.addr)
		send_range(ML_OP_BRK_SHRINK, space, end, call.addr - end);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
