/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Walks kernel stacks by the kernel's own tables (ORC), several times faster than bpf_get_stack(): the
 * rows that were needed before are kept, and the stack is read in few pieces.
 *
 * A walk begins where the tracepoint's call site stands on the stack, not far from the tracepoint's own
 * arguments. It must end where the registers of the program were saved, at the end of the stack: one that
 * does not, because it comes through an interrupt or a module, is left to bpf_get_stack().
 *
 * One walk in AUDIT is done both ways, and a difference counted.
 */
#ifndef MEMLEAK_KERNEL_WALK_H
#define MEMLEAK_KERNEL_WALK_H

#include "kernel_choose.h"

/* The kernel's code, and its tables; no rows: they are not known, and bpf_get_stack() walks. */
const volatile u64 code_start = 0;
const volatile u64 code_end = 0;
const volatile u64 orc_addresses = 0;
const volatile u64 orc_rows = 0;
const volatile u32 orc_count = 0;

#define AUDIT 256

/* Size and alignment of the kernel's stacks. */
#define STACK_BYTES 16384
/* At the end of a stack: the registers of the program, and below them what their saver returns to. */
#define ENTRY_WORDS 22
/* The stack is read in pieces of so many words, at most so many words. */
#define PIECE_WORDS 64
#define WINDOW_WORDS 512
/* Words in which the call site is looked for. */
#define NEAR_WORDS 64

/* The stack from the tracepoint's arguments on. */
struct window {
	u64 at;
	u64 start;		 /* where walks begin that have no call site; 0: not known yet */
	u32 near;		 /* where the last one began */
	u32 walks;
	/* here and not in registers: the verifier would try every value */
	volatile u32 have;	 /* words that were read */
	volatile u32 place;
	volatile u64 bp;
	volatile u64 hash;
	u64 words[WINDOW_WORDS];
};

/* For each program: an interrupt in one may run another. */
#define WALKING_PROGRAMS 8
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WALKING_PROGRAMS);
	__type(key, u32); /* enum kernel_program */
	__type(value, struct window);
} kernel_windows SEC(".maps");

/* Rows that were needed: the upper half is the code's offset, the lower half as below. */
#define KEPT_ROWS 8192
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KEPT_ROWS);
	__type(key, u32);
	__type(value, u64);
} kernel_rows SEC(".maps");

/* Where a function's caller is. Not 0; 1: the tables do not say. */
#define ROW_UNKNOWN 1
#define ROW_KNOWN 2
#define ROW_FROM_BP 4  /* the frame ends so many words above rbp, else above rsp */
#define ROW_BP_SAVED 8 /* the caller's rbp lies so many words below the frame's end */
#define ROW_WORDS(row) ((row) >> 8 & 0xfff)
#define ROW_BP_WORDS(row) ((row) >> 20)

/* A stack that was walked. */
struct walked {
	u32 count; /* of frames */
	u32 first; /* where the call site is; 0: nowhere */
	u64 frames[ML_MAX_FRAMES + 1];
};

INLINE u64 mix(u64 hash, u64 frame)
{
	hash = (hash ^ frame) * 0x9fb21c651e98df25ULL;
	return hash ^ hash >> 29;
}

INLINE u64 mixed(u64 hash)
{
	hash ^= hash >> 32;
	return hash ? hash : 1;
}

/* A row of the tables: struct orc_entry. */
struct orc_row {
	short sp_offset;
	short bp_offset;
	u16 flags; /* bits 0 to 3: the register that the frame is counted from; 4 to 7: likewise for rbp */
};
#define ORC_BP_AS_IT_IS 0
#define ORC_BP_IN_FRAME 1
#define ORC_FROM_BP 4
#define ORC_FROM_SP 5

/* What the tables say of a return address. */
__attribute__((noinline)) u32 search_tables(u32 offset)
{
	u64 address = code_start + offset - 1, at; /* the call lies before it */
	u32 low = 0, high = orc_count, middle, from, bp;
	struct orc_row row = {};
	int relative, words, bp_words;

	/* the last row that begins at the address or before it */
	for (u32 step = 0; step < 26; step++) {
		if (high - low <= 1)
			break;
		middle = low + (high - low) / 2;
		at = orc_addresses + 4 * (u64)middle;
		if (bpf_probe_read_kernel(&relative, sizeof(relative), (void *)at))
			return ROW_UNKNOWN;
		if (at + (s64)relative <= address)
			low = middle;
		else
			high = middle;
	}
	if (bpf_probe_read_kernel(&row, sizeof(row), (void *)(orc_rows + sizeof(row) * (u64)low)))
		return ROW_UNKNOWN;
	from = row.flags & 15;
	bp = row.flags >> 4 & 15;
	words = row.sp_offset >> 3;
	bp_words = -row.bp_offset >> 3;
	if ((from != ORC_FROM_SP && from != ORC_FROM_BP) || words < 1 || words > 0xfff)
		return ROW_UNKNOWN;
	if (bp == ORC_BP_AS_IT_IS)
		return ROW_KNOWN | (from == ORC_FROM_BP ? ROW_FROM_BP : 0) | words << 8;
	if (bp != ORC_BP_IN_FRAME || bp_words < 1 || bp_words > 0xfff)
		return ROW_UNKNOWN;
	return ROW_KNOWN | ROW_BP_SAVED | (from == ORC_FROM_BP ? ROW_FROM_BP : 0) | words << 8 |
	       bp_words << 20;
}

INLINE int is_code(u64 address)
{
	return address >= code_start && address < code_end;
}

/* The same, of rows that were needed before without a search. */
INLINE u32 row_of(u64 address)
{
	u32 offset = address - code_start, index, row;
	u64 *kept, known;

	if (!is_code(address))
		return ROW_UNKNOWN;
	index = (offset * 0x9e3779b1U) >> 19;
	kept = bpf_map_lookup_elem(&kernel_rows, &index);
	if (!kept)
		return ROW_UNKNOWN;
	known = *(volatile u64 *)kept;
	if (known >> 32 == offset && (u32)known)
		return (u32)known;
	row = search_tables(offset);
	*(volatile u64 *)kept = (u64)offset << 32 | row;
	return row;
}

/* Reads the stack's next pieces up to a word, which is in the window. */
__attribute__((noinline)) int read_up_to(struct window *window, u32 word)
{
	u32 have;

	if (!window)
		return 0;
	for (u32 piece = 0; piece < WINDOW_WORDS / PIECE_WORDS; piece++) {
		have = piece * PIECE_WORDS;
		if (have < window->have)
			continue;
		if (word < have)
			break;
		if (bpf_probe_read_kernel(&window->words[have], 8 * PIECE_WORDS,
					  (void *)(window->at + 8 * have)))
			return 0;
		window->have = have + PIECE_WORDS;
	}
	return 1;
}

/* Whether behind a return address of this row, at this place, lies the next one. */
__attribute__((noinline)) int is_followed(struct window *window, u32 word, u32 row)
{
	u64 next = (u64)word + ROW_WORDS(row);

	if (!window || !word || word >= NEAR_WORDS)
		return 0;
	if (row & ROW_FROM_BP)
		next = (window->words[(word - 1) & (WINDOW_WORDS - 1)] - window->at) / 8 + ROW_WORDS(row) - 1;
	return next > word && next < 2 * NEAR_WORDS &&
	       is_code(window->words[next & (WINDOW_WORDS - 1)]);
}

/*
 * The place of a return address of this row near the tracepoint's arguments; WINDOW_WORDS if there is
 * none. (The call site is one of them, and other copies of it may lie around.)
 */
__attribute__((noinline)) u32 find_near(struct window *window, u64 address, u32 row)
{
	u32 word;

	if (!window || row == ROW_UNKNOWN)
		return WINDOW_WORDS;
	word = window->near;
	if (word > 0 && word < NEAR_WORDS && window->words[word] == address &&
	    is_followed(window, word, row))
		return word;
	for (word = 1; word < NEAR_WORDS; word++) {
		if (window->words[word] == address && is_followed(window, word, row)) {
			window->near = word;
			return word;
		}
	}
	return WINDOW_WORDS;
}

/*
 * Walks from the call site on; `words`: of the stack from the tracepoint's arguments on. Fills the
 * frames in from the first one, and the window's hash. 0 if bpf_get_stack() must do it.
 */
__attribute__((noinline)) int walk_by_tables(struct window *window, struct walked *walked,
					     u64 call_site, u32 words)
{
	u32 place, row, frame_end, end = words - ENTRY_WORDS;
	u64 frame;

	if (!window || !walked || !orc_count || !call_site || words <= ENTRY_WORDS ||
	    words > STACK_BYTES / 8)
		return 0;
	window->have = 0;
	if (!read_up_to(window, 2 * NEAR_WORDS - 1))
		return 0;
	place = find_near(window, call_site, row_of(call_site));
	if (!place || place >= NEAR_WORDS)
		return 0;
	/* the allocator's functions align their stack: they save rbp first of all */
	window->bp = window->words[place - 1];
	window->place = place;
	window->hash = 0;
	for (u32 at = 0; at < ML_MAX_FRAMES; at++) {
		place = window->place;
		if (place == end) {
			/* behind a gap of random size, which is not worth reading */
			if (bpf_probe_read_kernel(&frame, sizeof(frame),
						  (void *)(window->at + 8 * (u64)end)))
				return 0;
		} else {
			if (place >= WINDOW_WORDS || place > end)
				return 0;
			if (place >= window->have && !read_up_to(window, place))
				return 0;
			frame = window->words[place & (WINDOW_WORDS - 1)];
		}
		walked->frames[at] = frame;
		window->hash = mix(window->hash, frame);
		walked->count = at + 1;
		if (place == end)
			return is_code(frame);
		row = row_of(frame);
		if (row == ROW_UNKNOWN)
			return 0;
		frame_end = ROW_WORDS(row);
		if (row & ROW_FROM_BP)
			frame_end += (window->bp - window->at) / 8;
		else
			frame_end += place + 1;
		if (frame_end <= place + 1)
			return 0;
		window->place = frame_end - 1;
		if (!(row & ROW_BP_SAVED) || frame_end - 1 == end) /* nobody needs the outermost one's */
			continue;
		place = frame_end - ROW_BP_WORDS(row);
		if (place >= WINDOW_WORDS || (place >= window->have && !read_up_to(window, place)))
			return 0;
		window->bp = window->words[place];
	}
	return 0;
}

/* Words of the stack from the tracepoint's arguments on. */
INLINE u32 words_to_end(struct window *window, void *args)
{
	/* by way of memory: arithmetic with pointers is forbidden */
	*(void *volatile *)&window->at = args;
	return (STACK_BYTES - (*(volatile u64 *)&window->at & (STACK_BYTES - 1))) / 8;
}

/*
 * After bpf_get_stack(): the first address above the tracepoint's arguments, where later walks begin
 * that have no call site. The frames before it are the program's and who runs it.
 */
__attribute__((noinline)) int learn_start(struct window *window, struct walked *walked)
{
	u64 frame;

	if (!window || !walked)
		return 0;
	window->have = 0;
	if (!orc_count || !read_up_to(window, 2 * NEAR_WORDS - 1))
		return 0;
	for (u32 at = 1; at < 6; at++) {
		frame = walked->frames[at];
		if (at < walked->count &&
		    find_near(window, frame, row_of(frame)) < WINDOW_WORDS) {
			window->start = frame;
			return 1;
		}
	}
	return 0;
}

#endif
