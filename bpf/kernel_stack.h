/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel stack of an allocation, by its hash; told through the ring before its first use. */
#ifndef MEMLEAK_KERNEL_STACK_H
#define MEMLEAK_KERNEL_STACK_H

#include "kernel_choose.h"

/* 0: stacks are left out. */
const volatile u32 kernel_stacks = 1;

static long (*bpf_get_stack)(void *ctx, void *buffer, u32 size, u64 flags) = (void *)67;

/*
 * Programs that walk stacks. Each has its own memory: an interrupt in one of them may run another
 * on the same CPU, and the kernel lets none run within itself.
 */
enum kernel_program {
	PROGRAM_KMALLOC,
	PROGRAM_KMALLOC_NODE,
	PROGRAM_CACHE_ALLOC,
	PROGRAM_CACHE_ALLOC_NODE,
	PROGRAM_CACHE_ALLOC_BULK,
	PROGRAM_PAGE_ALLOC,
	PROGRAM_PERCPU_ALLOC,
	PROGRAMS,
};

#define HEAD_WORDS (ML_STACK_HEAD / 8)
/* The tracepoint's own frames: among so many the call site is looked for. */
#define OWN_FRAMES 16
#define WORDS 256

/* A struct ml_stack that may begin with the frame of the call site. */
struct kernel_scratch {
	u64 words[WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PROGRAMS);
	__type(key, u32);
	__type(value, struct kernel_scratch);
} kernel_scratches SEC(".maps");

/* Index of the call site among the frames; 0 if it is not near the leaf. */
INLINE u32 find_call_site(const u64 *frames, u32 depth, u64 call_site)
{
	if (!call_site)
		return 0;
	for (u32 at = 0; at < OWN_FRAMES; at++) {
		if (at >= depth)
			break;
		if (frames[at] == call_site)
			return at;
	}
	return 0;
}

/* Publishes the stack unless it is known; returns whether events may refer to it. */
INLINE int tell_kernel_stack(struct kernel_scratch *scratch, u32 first, u32 count, u64 hash,
			     u16 end)
{
	u32 index = (u32)hash & (SEEN_BUCKETS - 1);
	struct seen_bucket *bucket = bpf_map_lookup_elem(&seen, &index);
	struct ml_stack *stack;

	if (!bucket)
		return 0;
	if (bucket->way[0] == hash || bucket->way[1] == hash || bucket->way[2] == hash ||
	    bucket->way[3] == hash)
		return 1;
	stack = (void *)&scratch->words[first & (OWN_FRAMES - 1)];
	stack->record = ML_RECORD_STACK;
	stack->end = end;
	stack->frame_count = count;
	stack->pid = bpf_get_current_pid_tgid() >> 32;
	stack->space = ML_KERNEL_SPACE;
	stack->hash = hash;
	stack->stopped_at = 0;
	if (count > ML_MAX_FRAMES)
		return 0;
	if (bpf_ringbuf_output(&events, stack, ML_STACK_HEAD + 8 * count, BPF_RB_NO_WAKEUP))
		return 0;
	/* only now: another CPU that sees the mark sends its event behind the stack */
	bucket->way[hash >> 62] = hash;
	return 1;
}

/* The hash of the current stack from `call_site` on; 0 if it could not be told. */
INLINE u64 kernel_stack(void *ctx, u32 program, u64 call_site)
{
	struct kernel_scratch *scratch;
	u64 hash = 0;
	u32 depth, first;
	long bytes;

	if (!kernel_stacks)
		return 0;
	scratch = bpf_map_lookup_elem(&kernel_scratches, &program);
	if (!scratch)
		return 0;
	bytes = bpf_get_stack(ctx, &scratch->words[HEAD_WORDS], 8 * ML_MAX_FRAMES, 0);
	if (bytes <= 0) {
		count_kernel(ML_KERNEL_DEFECT_STACK_UNREAD, 1);
		return 0;
	}
	depth = (u32)bytes / 8;
	first = find_call_site(&scratch->words[HEAD_WORDS], depth, call_site);
	for (u32 at = 0; at < ML_MAX_FRAMES; at++) {
		if (at >= depth)
			break;
		if (at < first)
			continue;
		hash = (hash ^ scratch->words[(HEAD_WORDS + at) & (WORDS - 1)]) *
		       0x9fb21c651e98df25ULL;
		hash ^= hash >> 29;
	}
	hash ^= hash >> 32;
	if (!hash)
		hash = 1;
	if (tell_kernel_stack(scratch, first, depth - first, hash,
			      depth < ML_MAX_FRAMES ? ML_END_COMPLETE : ML_END_TOO_DEEP))
		return hash;
	count_kernel(ML_KERNEL_DEFECT_STACK_UNPUBLISHED, 1);
	return 0;
}

#endif
