/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of a user stack by .eh_frame rows, or by frame pointer where there is no row.
 *
 * It reads the stack through a window that is copied as a whole: one copy of a few KiB costs little
 * more than the read of one word. It works in per-thread memory, since a program can be preempted by
 * another one on the same CPU.
 */
#ifndef MEMLEAK_UNWIND_H
#define MEMLEAK_UNWIND_H

#include "maps.h"
#include "sample.h"

#define PAGE 4096
#define WINDOW 2048 /* bytes of stack in one copy; a power of two */
#define CACHE 512   /* cached frames per thread; a power of two */

/* What is known about a pc: saves two binary searches. */
struct cached_frame {
	u64 key; /* the pc, and whether it is exact: its rows may differ */
	u64 frame;
	u32 generation;
	u16 cfa_offset;
	u16 rule;
};

/* Room for one walk, and the thread's cache. */
struct scratch {
	struct ml_stack stack;
	u8 window[WINDOW + 8];
	struct cached_frame cache[CACHE];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* A walk under way. It lies on the BPF stack: bpf_loop takes no map value as context. */
struct walk {
	struct scratch *scratch;
	struct ml_mapping_table *table;
	u64 pc, sp, bp;
	u64 window_start;
	u32 window_bytes;
	u32 depth;
	u64 hash;
	u32 end;   /* enum ml_stack_end */
	u32 table_index;
	u16 exact; /* pc was executing, it is no return address */
	u16 guessed; /* pc was found without a row */
};

/*
 * The searches are global functions: the verifier checks them once, for any arguments, and not anew
 * on every path that leads to them.
 */
#define NOT_FOUND 0xffffffff

/* Index of the executable mapping that holds `pc`. */
__attribute__((noinline)) u32 mapping_index(u32 table_index, u64 pc)
{
	struct ml_mapping_table *table = bpf_map_lookup_elem(&mapping_tables, &table_index);
	u32 low = 0, high;

	if (!table)
		return NOT_FOUND;
	high = table->count;
	for (int i = 0; i < 11 && low < high; i++) { /* 2^10 = ML_MAX_MAPPINGS */
		u32 middle = (low + high) / 2;
		struct ml_mapping *row = &table->rows[middle & (ML_MAX_MAPPINGS - 1)];

		if (pc < row->start)
			high = middle;
		else if (pc >= row->end)
			low = middle + 1;
		else
			return middle;
	}
	return NOT_FOUND;
}

/* Index of the last row at or before `pc` among `count` rows from `first` on. */
__attribute__((noinline)) u32 row_index(u32 first, u32 count, u32 pc)
{
	u32 low = first, high = first + count;

	for (int i = 0; i < 24 && low < high; i++) { /* files have fewer than 2^24 rows */
		u32 middle = low + (high - low) / 2;
		struct ml_unwind_row *row = bpf_map_lookup_elem(&unwind_rows, &middle);

		if (!row)
			return NOT_FOUND;
		if (row->pc <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	return low == first ? NOT_FOUND : low - 1;
}

/* The executable mapping that holds `pc`. */
INLINE struct ml_mapping *find_mapping(struct ml_mapping_table *table, u32 table_index, u64 pc)
{
	u32 index = mapping_index(table_index, pc);

	return index == NOT_FOUND ? 0 : &table->rows[index & (ML_MAX_MAPPINGS - 1)];
}

/* The unwind row for an offset in the mapping's file. */
INLINE struct ml_unwind_row *find_row(struct ml_mapping *mapping, u32 offset)
{
	u32 index = row_index(mapping->first_row, mapping->row_count, offset);

	return index == NOT_FOUND ? 0 : bpf_map_lookup_elem(&unwind_rows, &index);
}

/* Finds frame id and rule of `pc`, from the cache if it can. Returns 0 if no mapping holds it. */
INLINE struct cached_frame *find_frame(struct walk *w)
{
	u64 pc = w->pc, key = pc << 1 | w->exact;
	u32 slot = (pc ^ pc >> 9) & (CACHE - 1);
	struct cached_frame *known = &w->scratch->cache[slot];
	struct ml_mapping *mapping;
	struct ml_unwind_row *row;
	u64 offset;

	if (known->key == key && known->generation == w->table->generation)
		return known;
	/* the call lies before a return address, which may be the next function's first byte */
	mapping = find_mapping(w->table, w->table_index, w->exact ? pc : pc - 1);
	if (!mapping)
		return 0;
	offset = pc - mapping->start + mapping->file_offset;
	known->key = key;
	known->generation = w->table->generation;
	known->cfa_offset = 0;
	known->rule = ML_UNWIND_NONE;
	if (!mapping->file_id) {
		known->frame = ML_FRAME_ANONYMOUS |
			       (u64)(mapping->generation & 0x1fff) << 48 |
			       (pc & ((1ULL << 48) - 1));
		return known;
	}
	known->frame = (u64)mapping->file_id << ML_FRAME_OFFSET_BITS |
		       (offset & ((1ULL << ML_FRAME_OFFSET_BITS) - 1));
	row = find_row(mapping, offset - !w->exact);
	if (row) {
		known->cfa_offset = row->cfa_offset;
		known->rule = row->rule;
	}
	return known;
}

/* Makes the window hold [address, address + 8), with as much above it as can be had. */
INLINE int move_window(struct walk *w, u64 address)
{
	u32 bytes = WINDOW;

	if (bpf_probe_read_user(w->scratch->window, WINDOW, (void *)address)) {
		/* the end of the stack: what is left of the page */
		bytes = PAGE - (address & (PAGE - 1));
		if (bytes > WINDOW)
			bytes = WINDOW;
		if (bpf_probe_read_user(w->scratch->window, bytes, (void *)address))
			return 0;
	}
	w->window_start = address;
	w->window_bytes = bytes;
	return 1;
}

/* One word of the stack. */
INLINE int read_word(struct walk *w, u64 address, u64 *word)
{
	u64 offset = address - w->window_start;

	if (offset + 8 > w->window_bytes || offset >= WINDOW) {
		if (!move_window(w, address))
			return 0;
		offset = 0;
	}
	*word = *(u64 *)(w->scratch->window + (offset & (WINDOW - 1)));
	return 1;
}

/*
 * The rule for a return address without row, if it is followed by a function's way out: what runs
 * next is known then, whatever made the code. (CPython's trampolines are such code. It is read each
 * time: a compiler may put other code into its place.)
 */
INLINE int way_out(u64 pc, u64 *offset, u16 *rule)
{
	u8 code[8];

	if (bpf_probe_read_user(code, sizeof(code), (void *)pc))
		return 0;
	if (code[0] == 0xc3) { /* ret */
		*offset = 8;
		*rule = 0;
	} else if (code[0] == 0x5d && code[1] == 0xc3) { /* pop %rbp; ret */
		*offset = 16;
		*rule = 2 << 3;
	} else if (code[0] == 0x48 && code[1] == 0x83 && code[2] == 0xc4 && code[3] < 0x80 &&
		   code[4] == 0xc3) { /* add $n, %rsp; ret */
		*offset = code[3] + 8;
		*rule = 0;
	} else {
		return 0;
	}
	return 1;
}

/* Steps to the caller. Returns 0 and sets `end` where there is none. */
INLINE int step(struct walk *w, u16 cfa_offset, u16 rule)
{
	u64 offset = 8 * (u64)cfa_offset, cfa, saved_bp = 0, pc, bp = w->bp;
	int is_call = !w->exact;

	w->guessed = 0;
	w->exact = 0;
	w->end = ML_END_UNREADABLE;
	switch (rule & 7) {
	case ML_UNWIND_END:
		w->end = ML_END_COMPLETE;
		return 0;
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
		if (!read_word(w, w->bp, &bp) || !read_word(w, w->bp - offset, &cfa))
			return 0;
		break;
	case ML_UNWIND_SIGNAL: /* ucontext: rbp at 120, rsp at 160, rip at 168 */
		if (!read_word(w, w->sp + 120, &bp) || !read_word(w, w->sp + 160, &cfa) ||
		    !read_word(w, w->sp + 168, &pc))
			return 0;
		w->exact = 1;
		w->bp = bp;
		w->sp = cfa;
		w->pc = pc;
		return 1;
	default: /* no row: the way out, or the frame pointer, if it can be one */
		w->end = ML_END_NO_UNWIND_INFO;
		if (is_call && way_out(w->pc, &offset, &rule)) {
			cfa = w->sp + offset;
			w->guessed = 1; /* unless the call never returns, and other code follows it */
			break;
		}
		if (w->bp < w->sp || w->bp & 7)
			return 0;
		cfa = w->bp + 16;
		rule = 2 << 3;
		w->guessed = 1;
	}
	if (cfa <= w->sp || cfa & 7)
		return 0;
	if (rule >> 3) {
		saved_bp = cfa - 8 * (u64)(rule >> 3);
		if (!read_word(w, saved_bp, &bp))
			return 0;
	}
	if (!read_word(w, cfa - 8, &pc))
		return 0;
	w->pc = pc;
	w->sp = cfa;
	w->bp = bp;
	return 1;
}

/* Whether a call instruction ends at `pc`: e8 and a distance, or ff /2 with its operand. */
INLINE int follows_call(u64 pc)
{
	u8 code[8];

	if (bpf_probe_read_user(code, sizeof(code), (void *)(pc - sizeof(code))))
		return 0;
	return code[3] == 0xe8 || (code[6] == 0xff && (code[7] & 0x38) == 0x10) ||
	       (code[5] == 0xff && (code[6] & 0x38) == 0x10) ||
	       (code[4] == 0xff && (code[5] & 0x38) == 0x10) ||
	       (code[2] == 0xff && (code[3] & 0x38) == 0x10) ||
	       (code[1] == 0xff && (code[2] & 0x38) == 0x10);
}

/* Callback of bpf_loop: one frame. Returns 1 to stop. */
static long walk_frame(u32 index, struct walk *w)
{
	struct cached_frame *known = find_frame(w);
	u64 frame;

	/* without a row, it is a return address only behind a call: rbp may be anything */
	if (!known || (w->guessed && !follows_call(w->pc))) {
		w->end = w->guessed ? ML_END_NO_UNWIND_INFO : ML_END_NO_MAPPING;
		return 1;
	}
	frame = known->frame | (w->exact ? ML_FRAME_EXACT : 0);
	w->scratch->stack.frames[w->depth & ML_MAX_FRAMES] = frame;
	w->depth++;
	w->hash = mix(w->hash, frame);
	if (!step(w, known->cfa_offset, known->rule))
		return 1;
	w->end = ML_END_TOO_DEEP; /* unless another frame says otherwise */
	return 0;
}

/* Publishes the stack unless it is known. Returns whether events may refer to it. */
INLINE int publish_stack(struct walk *w, u32 pid, u32 space)
{
	u32 bucket_index = (u32)w->hash & (SEEN_BUCKETS - 1);
	struct seen_bucket *bucket = bpf_map_lookup_elem(&seen, &bucket_index);
	struct ml_stack *stack = &w->scratch->stack;
	u32 depth = w->depth, bytes;

	if (!bucket)
		return 0;
	if (bucket->way[0] == w->hash || bucket->way[1] == w->hash ||
	    bucket->way[2] == w->hash || bucket->way[3] == w->hash)
		return 1;
	if (depth > ML_MAX_FRAMES)
		depth = ML_MAX_FRAMES;
	stack->record = ML_RECORD_STACK;
	stack->end = w->end;
	stack->frame_count = depth;
	stack->pid = pid;
	stack->space = space;
	stack->hash = w->hash;
	stack->stopped_at = w->end == ML_END_COMPLETE ? 0 : w->pc;
	bytes = ML_STACK_HEAD + 8 * depth;
	if (bpf_ringbuf_output(&events, stack, bytes, BPF_RB_NO_WAKEUP))
		return 0;
	/* only now: another CPU that sees the mark sends its event behind the stack */
	bucket->way[w->hash >> 62] = w->hash;
	return 1;
}

/* The hash of the stack at `regs`, a function's return; 0 if it could not be told. */
INLINE u64 record_stack(struct pt_regs *regs, struct task_struct *task, struct ml_space *space,
			u32 pid)
{
	struct walk w = {};

	w.scratch = bpf_task_storage_get(&scratches, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	w.table_index = space->table;
	w.table = bpf_map_lookup_elem(&mapping_tables, &w.table_index);
	if (!w.scratch || !w.table) {
		count(ML_DEFECT_STACK_UNREAD);
		return 0;
	}
	w.pc = regs->rip;
	w.sp = regs->rsp;
	w.bp = regs->rbp;
	bpf_loop(ML_MAX_FRAMES, walk_frame, &w, 0);
	w.hash = mixed((w.hash ^ w.end) * HASH_MULTIPLIER);
	if (publish_stack(&w, pid, space->id)) {
		ship_sample(regs, w.hash);
		return w.hash;
	}
	count(ML_DEFECT_STACK_UNPUBLISHED);
	return 0;
}

#endif
