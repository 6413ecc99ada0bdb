/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel's own tables (ORC) say of its code: from a return address to its caller's. Rows that
 * were needed once are kept.
 */
#ifndef MEMLEAK_KERNEL_ORC_H
#define MEMLEAK_KERNEL_ORC_H

#include "kernel_buffer.h"

/* The kernel's code, and its tables; no rows: they are not known, and bpf_get_stack() walks. */
const volatile u64 code_start = 0;
const volatile u64 code_end = 0;
const volatile u64 orc_addresses = 0;
const volatile u64 orc_rows = 0;
const volatile u32 orc_count = 0;

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
#define ROW_FROM_BP 4	/* the frame ends so many words above rbp, else above rsp */
#define ROW_INDIRECT 16 /* where it ends, stands so many words below rbp */
#define ROW_BP_SAVED 8	/* the caller's rbp lies so many words below the frame's end */
#define ROW_BP_AT_BP 32 /* the caller's rbp lies where rbp points to */
#define ROW_WORDS(row) ((row) >> 8 & 0xfff)
#define ROW_BP_WORDS(row) ((row) >> 20)

/* A row of the tables: struct orc_entry. */
struct orc_row {
	short sp_offset;
	short bp_offset;
	u16 flags; /* bits 0 to 3: the register that the frame is counted from; 4 to 7: likewise for rbp */
};
#define ORC_BP_AS_IT_IS 0
#define ORC_BP_IN_FRAME 1
#define ORC_BP_AT_BP 4
#define ORC_FROM_BP 4
#define ORC_FROM_SP 5
#define ORC_FROM_BP_INDIRECT 8

/* What the tables say of a return address. */
__attribute__((noinline)) u32 search_tables(u32 offset)
{
	u64 address = code_start + offset - 1, at; /* the call lies before it */
	u32 low = 0, high = orc_count, middle, from, bp, known = ROW_KNOWN;
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
	if (from == ORC_FROM_BP) {
		known |= ROW_FROM_BP;
	} else if (from == ORC_FROM_BP_INDIRECT) {
		known |= ROW_FROM_BP | ROW_INDIRECT;
		words = -words;
	} else if (from != ORC_FROM_SP) {
		return ROW_UNKNOWN;
	}
	bp_words = -row.bp_offset >> 3;
	if (words < 1 || words > 0xfff)
		return ROW_UNKNOWN;
	known |= words << 8;
	if (bp == ORC_BP_AS_IT_IS)
		return known;
	if (bp == ORC_BP_AT_BP && !row.bp_offset)
		return known | ROW_BP_AT_BP;
	if (bp != ORC_BP_IN_FRAME || bp_words < 1 || bp_words > 0xfff)
		return ROW_UNKNOWN;
	return known | ROW_BP_SAVED | bp_words << 20;
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

#endif
