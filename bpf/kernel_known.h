/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stacks that were walked before are known again: a walk by tables is decided by the words of the stack that it
 * reads, so where the same words lie in the same places, it would come to the same frames. They are compared,
 * which takes a quarter of a walk, and most allocations of a program come by few ways.
 *
 * Of a saved rbp, its distance from the tracepoint's arguments counts. Between the last two frames of a system
 * call the kernel leaves a gap of random size; the end of the one before the gap is counted from rbp, whose
 * distance from the stack's end counts then.
 */
#ifndef MEMLEAK_KERNEL_KNOWN_H
#define MEMLEAK_KERNEL_KNOWN_H

#include "kernel_walk.h"

/* A walk, and what decided it. */
struct known_walk {
	u64 call_site;
	u64 hash;
	u64 outermost; /* the return behind the gap */
	u32 end;       /* where that is, bytes from the tracepoint's arguments, unless a word tells it */
	u32 is_known;
	struct decision by;
};

/* By enum kernel_program, set, and one of two. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_KERNEL_PROGRAMS * KNOWN_SETS * 2);
	__type(key, u32);
	__type(value, struct known_walk);
} known_walks SEC(".maps");

/* The set of a walk: by its call site. Where there is none, by the stack's size, roughly. */
INLINE u32 known_set(u64 call_site, u32 words)
{
	u64 key = call_site ? call_site : words >> 7;

	return within((key * HASH_MULTIPLIER) >> (64 - KNOWN_BITS), KNOWN_SETS);
}

INLINE struct known_walk *known_walk(u32 program, u32 set, u32 way)
{
	u32 index = (program << KNOWN_BITS | set) << 1 | (way & 1);

	return bpf_map_lookup_elem(&known_walks, &index);
}

/* Whether these words are on the stack from `at` on: addresses counted from `base`. */
INLINE int are_there(u64 at, const struct deciding *words, u32 count, u32 most, u64 base)
{
	for (u32 index = 0; index < most; index++) {
		if (index >= count)
			break;
		if (word_by_cast(at + (s64)words[index].at) != base + words[index].value)
			return 0;
	}
	return 1;
}

/* The hash of the current stack, if its walk would be this one, else 0. */
__attribute__((noinline)) u64 hash_if_known(struct window *window, struct known_walk *known, u32 words)
{
	u64 at, end;

	if (!can_cast() || !window || !known || !known->is_known || words <= ENTRY_WORDS)
		return 0;
	at = window->at;
	end = at + 8 * (u64)(words - ENTRY_WORDS);
	/* a return that lay before the end may lie behind it now */
	if (at + known->by.deepest >= end)
		return 0;
	if (known->by.end_known) {
		if (word_by_cast(at + (s64)known->by.end_at) != end + 8 - known->by.end_below)
			return 0;
	} else if (at + known->end != end) {
		return 0;
	}
	if (!are_there(at, known->by.return_words, known->by.returns, KNOWN_RETURNS, code_start) ||
	    !are_there(at, known->by.address_words, known->by.addresses, KNOWN_ADDRESSES, at) ||
	    word_by_cast(end) != known->outermost)
		return 0;
	window->start = code_start + known->by.return_words[0].value;
	return known->hash;
}

/* The hash of the current stack, if it is one of the two of its set, which say who was met last. */
INLINE u64 known_stack(struct window *window, u32 program, u32 set, u64 call_site, u32 words)
{
	struct known_walk *known;
	u32 way = window->met[set];
	u64 hash;

	for (u32 turn = 0; turn < 2; turn++, way ^= 1) {
		known = known_walk(program, set, way);
		if (!known || known->call_site != call_site)
			continue;
		hash = hash_if_known(window, known, words);
		if (!hash)
			continue;
		window->met[set] = way;
		return hash;
	}
	return 0;
}

/*
 * Keeps a walk by tables whose stack was told, in the place of the one of its set that was not met last, unless
 * more decided it than there is room for.
 */
INLINE void remember_walk(struct window *window, u32 program, u32 set, u64 call_site, u32 words)
{
	u32 way = window->met[set] ^ 1, end = 8 * (words - ENTRY_WORDS);
	struct known_walk *known = known_walk(program, set, way);

	if (!can_cast() || !known || window->decision.returns > KNOWN_RETURNS ||
	    window->decision.addresses > KNOWN_ADDRESSES)
		return;
	known->call_site = call_site;
	known->hash = mixed(window->hash);
	known->outermost = kernel_word(window->at + end);
	known->end = end;
	known->is_known = 1;
	known->by = window->decision;
	window->met[set] = way;
}

#endif
