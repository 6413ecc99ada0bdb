/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What decides a walk by tables: the words of the stack that it reads, each at a place that those before decide.
 * They are returns, and addresses within the stack (frame pointers that were saved), of which one may tell where
 * the last frame but one ends.
 */
#ifndef MEMLEAK_KERNEL_DECISION_H
#define MEMLEAK_KERNEL_DECISION_H

#include "kernel_orc.h"

/* An index that the verifier sees to be one: clang leaves out a mask that it knows to be needless. */
INLINE u32 within(u32 index, u32 size)
{
	asm volatile("" : "+r"(index));
	return index & (size - 1);
}

/* A word of the stack. */
struct deciding {
	int at;	   /* bytes from the tracepoint's arguments */
	u32 value; /* of a return: bytes from the code's start; of an address: likewise from the arguments */
};
/* So many are kept; of a walk with more, too few. */
#define KNOWN_RETURNS 32
#define KNOWN_ADDRESSES 8
/* All that decided a walk. */
struct decision {
	u32 returns; /* so many of each, kept or not */
	u32 addresses;
	u32 end_known; /* the place of the outermost return was told by a word: */
	int end_at;    /* this one, of bytes from the arguments */
	u32 end_below; /* by so many bytes it is lower than the end of the frame before */
	u32 deepest;   /* of the returns, bytes from the arguments */
	struct deciding return_words[KNOWN_RETURNS];
	struct deciding address_words[KNOWN_ADDRESSES];
};

INLINE void decided_by_return(struct decision *decision, u32 place, u64 frame)
{
	struct deciding *word = &decision->return_words[within(decision->returns, KNOWN_RETURNS)];

	word->at = 8 * place;
	word->value = frame - code_start;
	decision->deepest = 8 * place;
	decision->returns++;
}

INLINE void decided_by_address(struct decision *decision, u32 place, u32 value_place)
{
	struct deciding *word =
		&decision->address_words[within(decision->addresses, KNOWN_ADDRESSES)];

	word->at = 8 * place;
	word->value = 8 * value_place;
	decision->addresses++;
}

/* A word, which is an address so many words below it, decided where a frame ends. */
INLINE void decided_by_end(struct decision *decision, u32 place, u32 frame_end, u32 below,
			   int is_last)
{
	if (!is_last) {
		decided_by_address(decision, place, frame_end - below);
		return;
	}
	decision->end_known = 1;
	decision->end_at = 8 * place;
	decision->end_below = 8 * below;
}

#endif
