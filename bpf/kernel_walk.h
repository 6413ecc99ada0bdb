/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Walks kernel stacks by the kernel's own tables, several times faster than bpf_get_stack(): the stack is
 * read in few pieces, and the rows of the tables are at hand.
 *
 * A walk begins with the function that runs the programs of a tracepoint, on whose stack lie the
 * tracepoint's arguments: how far from there it returns, and where it saved rbp, is learnt from a first
 * walk of the kernel's. It must end where the registers of the program were saved, at the end of the
 * stack: one that does not, because it comes through an interrupt or a module, is left to
 * bpf_get_stack().
 *
 * One walk in AUDIT is done both ways, and a difference counted; of the first ones of each program on a CPU, in
 * which most code is new, one in AUDIT_EARLY. Walking both ways takes 3 µs.
 */
#ifndef MEMLEAK_KERNEL_WALK_H
#define MEMLEAK_KERNEL_WALK_H

#include "kernel_decision.h"

#define AUDIT 4096
#define AUDIT_EARLY 64

/* Size and alignment of the kernel's stacks. */
#define STACK_BYTES 16384
/* At the end of a stack: the registers of the program, and below them what their saver returns to. */
#define ENTRY_WORDS 22
/* The stack is read in pieces of so many words, at most so many words. */
#define PIECE_WORDS 64
#define WINDOW_WORDS 512
/* Words in which the first return address is looked for. */
#define NEAR_WORDS 64

/* Walks that can be known again (kernel_known.h) are kept in so many sets of two, 2 to the power of this. */
#define KNOWN_BITS 5
#define KNOWN_SETS (1 << KNOWN_BITS)

/* Allocating functions that call one tracepoint, at most; of more some are learnt again and again. */
#define STARTS 16

/* The stack from the tracepoint's arguments on. */
struct window {
	u64 at;
	u64 start;    /* where the arguments' function returns to; 0: not known */
	u32 start_at; /* the place of that; 0: not known yet */
	u32 bp_at;    /* where it saved rbp, a place or one below the arguments */
	u32 walks;
	u64 starts[STARTS]; /* returns that were learnt: from a place in each allocating function */
	/* here and not in registers: the verifier would try every value */
	volatile u32 have;  /* words that were read */
	volatile u32 total; /* words up to the stack's end */
	volatile u32 place;
	volatile u64 bp;
	volatile u64 hash;
	volatile u32 bp_from; /* the place of the word that is in bp */
	struct decision decision;
	u8 met[KNOWN_SETS]; /* which walk of each set was met last */
	u64 words[WINDOW_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_KERNEL_PROGRAMS);
	__type(key, u32); /* enum kernel_program */
	__type(value, struct window);
} kernel_windows SEC(".maps");

/* A stack that was walked. */
struct walked {
	u32 count; /* of frames */
	u32 first; /* where the call site is; 0: nowhere */
	u64 frames[ML_MAX_FRAMES + 1];
};

/* Where a return is kept among those that were learnt. */
INLINE u64 *start_of(struct window *window, u64 start)
{
	return &window->starts[within((start * HASH_MULTIPLIER) >> 60, STARTS)];
}

/* A word of the window, which was read unless it can be read here. */
INLINE u64 word_at(struct window *window, u32 index)
{
	if (can_cast())
		return kernel_word(window->at + 8 * (u64)index);
	return window->words[within(index, WINDOW_WORDS)];
}

/* Reads the stack's next pieces up to a word, which is in the window, and not beyond its end. */
__attribute__((noinline)) int read_up_to(struct window *window, u32 word)
{
	u32 have, left;

	if (!window)
		return 0;
	if (can_cast())
		return 1;
	for (u32 piece = 0; piece < WINDOW_WORDS / PIECE_WORDS; piece++) {
		have = piece * PIECE_WORDS;
		if (have < window->have)
			continue;
		if (word < have || window->total <= have)
			break;
		left = window->total - have;
		if (left > PIECE_WORDS)
			left = PIECE_WORDS;
		if (bpf_probe_read_kernel(&window->words[have], 8 * left,
					  (void *)(window->at + 8 * have)))
			return 0;
		window->have = have + PIECE_WORDS;
	}
	return 1;
}

/* A walk under way, on the BPF stack. */
struct table_walk {
	struct window *window;
	struct walked *walked;
	u64 call_site;
	u32 end; /* the place of the outermost return */
	int arrived;
};

/* Frames that the verifier follows one by one; more are turns of bpf_loop, which it follows once. */
#define TURN_FRAMES 8

/* Callback of bpf_loop: the next frames. Returns 1 to stop. */
static long walk_frames(u32 turn, struct table_walk *walk)
{
	struct window *window = walk->window;
	struct walked *walked = walk->walked;
	u32 place, row, bp_place, end_place, frame_end, end = walk->end;
	u64 frame;

	for (u32 step = 0; step < TURN_FRAMES; step++) {
		place = window->place;
		if (place == end) {
			/* behind a gap of random size, which is not worth reading */
			frame = kernel_word(window->at + 8 * (u64)end);
		} else {
			if (place >= WINDOW_WORDS || place > end)
				return 1;
			if (place >= window->have && !read_up_to(window, place))
				return 1;
			frame = word_at(window, place);
			decided_by_return(&window->decision, place, frame);
		}
		if (!walk->call_site || frame == walk->call_site || walked->count) {
			walked->frames[within(walked->count, ML_MAX_FRAMES + 1)] = frame;
			walked->count++;
			window->hash = mix(window->hash, frame);
		}
		if (place == end) {
			walk->arrived = walked->count && is_code(frame);
			return 1;
		}
		row = row_of(frame);
		if (row == ROW_UNKNOWN)
			return 1;
		frame_end = place + 1 + ROW_WORDS(row);
		if (row & ROW_INDIRECT) {
			bp_place = (window->bp - window->at) / 8;
			decided_by_address(&window->decision, window->bp_from, bp_place);
			end_place = bp_place - ROW_WORDS(row);
			if (end_place >= WINDOW_WORDS ||
			    (end_place >= window->have && !read_up_to(window, end_place)))
				return 1;
			frame_end = (word_at(window, end_place) - window->at) / 8;
			decided_by_end(&window->decision, end_place, frame_end, 0,
				       frame_end - 1 == end);
		} else if (row & ROW_FROM_BP) {
			frame_end = (window->bp - window->at) / 8 + ROW_WORDS(row);
			decided_by_end(&window->decision, window->bp_from, frame_end,
				       ROW_WORDS(row), frame_end - 1 == end);
		}
		if (frame_end <= place + 1)
			return 1;
		window->place = frame_end - 1;
		/* nobody needs the outermost one's */
		if (!(row & (ROW_BP_SAVED | ROW_BP_AT_BP)) || frame_end - 1 == end)
			continue;
		place = frame_end - ROW_BP_WORDS(row);
		if (row & ROW_BP_AT_BP) {
			place = (window->bp - window->at) / 8;
			decided_by_address(&window->decision, window->bp_from, place);
		}
		if (place >= WINDOW_WORDS || (place >= window->have && !read_up_to(window, place)))
			return 1;
		window->bp = word_at(window, place);
		window->bp_from = place;
	}
	return 0;
}

/*
 * Walks; `words`: of the stack from the tracepoint's arguments on. Fills in the frames from the call
 * site on (0: all), and the window's hash. 0 if bpf_get_stack() must do it.
 */
__attribute__((noinline)) int walk_by_tables(struct window *window, struct walked *walked,
					     u64 call_site, u32 words)
{
	struct table_walk walk = { window, walked, call_site, words - ENTRY_WORDS, 0 };
	u64 frame;

	if (!window || !walked || words > STACK_BYTES / 8)
		return 0;
	window->start = 0;
	if (!window->start_at || words <= ENTRY_WORDS)
		return 0;
	if (!read_up_to(window, NEAR_WORDS - 1))
		return 0;
	frame = word_at(window, window->start_at);
	if (!frame || *start_of(window, frame) != frame)
		return 0; /* from another place, or it was a copy that was learnt */
	window->start = frame;
	window->bp = kernel_word(window->at + 8 * (u64)(s64)(int)window->bp_at);
	window->place = window->start_at;
	window->hash = 0;
	window->bp_from = window->bp_at;
	window->decision.returns = 0;
	window->decision.addresses = 0;
	window->decision.end_known = 0;
	walked->count = 0;
	/* none is deeper than a stack can be told: those are few, and left to the kernel */
	bpf_loop(ML_MAX_FRAMES / TURN_FRAMES, walk_frames, &walk, 0);
	return walk.arrived;
}

/* Whether a walk is done by the kernel too; each is counted. */
INLINE int is_audited(struct window *window)
{
	u32 walks = ++window->walks;

	return !(walks % AUDIT) || (walks < AUDIT && !(walks % AUDIT_EARLY));
}

/* Turns the window to the current stack; returns its words from the tracepoint's arguments on. */
INLINE u32 look_at_stack(struct window *window, void *args)
{
	u32 words;

	/* by way of memory: arithmetic with pointers is forbidden */
	*(void *volatile *)&window->at = args;
	words = (STACK_BYTES - (*(volatile u64 *)&window->at & (STACK_BYTES - 1))) / 8;
	window->have = can_cast() ? WINDOW_WORDS : 0;
	window->total = words;
	return words;
}

/*
 * After bpf_get_stack(): finds where walks begin. The frames before are the program's, and the last of
 * these that of the arguments' function.
 */
__attribute__((noinline)) int learn_start(struct window *window, struct walked *walked, u32 words)
{
	u32 row;

	if (!window || !walked || !orc_count || words > STACK_BYTES / 8)
		return 0;
	window->have = 0;
	window->total = words;
	if (!read_up_to(window, NEAR_WORDS - 1))
		return 0;
	for (u32 at = 1; at < 6; at++) {
		row = row_of(walked->frames[at - 1]);
		if (at >= walked->count || row == ROW_UNKNOWN || !(row & ROW_BP_SAVED))
			continue;
		for (u32 word = 0; word < NEAR_WORDS; word++) {
			if (word_at(window, word) != walked->frames[at])
				continue;
			window->start_at = word;
			window->bp_at = word + 1 - ROW_BP_WORDS(row);
			window->start = walked->frames[at];
			*start_of(window, window->start) = window->start;
			return 1;
		}
	}
	return 0;
}

#endif
