/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel stack of an allocation, by its hash; told through the ring before its first use. */
#ifndef MEMLEAK_KERNEL_STACK_H
#define MEMLEAK_KERNEL_STACK_H

#include "kernel_known.h"

/* 0: stacks are left out. */
const volatile u32 kernel_stacks = 1;

static long (*bpf_get_stack)(void *ctx, void *buffer, u32 size, u64 flags) = (void *)67;

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
	__uint(max_entries, ML_KERNEL_PROGRAMS);
	__type(key, u32);
	__type(value, struct kernel_scratch);
} kernel_scratches SEC(".maps");

/* Finds the call site near the leaf, and returns the hash of the frames from there on. */
__attribute__((noinline)) u64 hash_frames(struct walked *walked, u64 call_site)
{
	u64 hash = 0;
	u32 first = 0;

	if (!walked)
		return 0;
	for (u32 at = 0; at < OWN_FRAMES; at++) {
		if (!call_site || at >= walked->count)
			break;
		if (walked->frames[at] == call_site) {
			first = at;
			break;
		}
	}
	walked->first = first;
	for (u32 at = 0; at < ML_MAX_FRAMES; at++) {
		if (at >= walked->count)
			break;
		if (at >= walked->first)
			hash = mix(hash, walked->frames[at]);
	}
	return mixed(hash);
}

/* Publishes the stack unless it is known; returns whether events may refer to it. */
INLINE int tell_kernel_stack(struct kernel_scratch *scratch, u32 first, u32 count, u64 hash,
			     u16 end)
{
	u32 index = (u32)hash & (SEEN_BUCKETS - 1), bytes;
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
	/* there are no more, but Linux 6.1 forgets a comparison with what is kept on the stack */
	bytes = ML_STACK_HEAD + 8 * within(count, ML_MAX_FRAMES + 1);
	if (bpf_ringbuf_output(&events, stack, bytes, BPF_RB_NO_WAKEUP))
		return 0;
	/* only now: another CPU that sees the mark sends its event behind the stack */
	bucket->way[hash >> 62] = hash;
	return 1;
}

/* Tells the stack in `scratch`; its hash, or 0 if it could not be told. */
INLINE u64 tell_walked(struct kernel_scratch *scratch, struct walked *walked, u64 hash)
{
	u32 count = walked->count, first = walked->first & (OWN_FRAMES - 1);

	if (tell_kernel_stack(scratch, first, count - first, hash,
			      count < ML_MAX_FRAMES ? ML_END_COMPLETE : ML_END_TOO_DEEP))
		return hash;
	count_kernel(ML_KERNEL_DEFECT_STACK_UNPUBLISHED, 1);
	return 0;
}

/* Has the kernel walk the current stack; the hash from the call site on, 0 if it cannot be read. */
INLINE u64 walk_by_kernel(void *ctx, struct walked *walked, u64 call_site)
{
	long bytes = bpf_get_stack(ctx, walked->frames, 8 * ML_MAX_FRAMES, 0);

	if (bytes <= 0) {
		count_kernel(ML_KERNEL_DEFECT_STACK_UNREAD, 1);
		return 0;
	}
	walked->count = (u32)bytes / 8;
	return hash_frames(walked, call_site);
}

/* The hash of the current stack, for a program that is no tracepoint's; 0 if it could not be told. */
INLINE u64 kernel_stack_here(void *ctx, u32 program)
{
	struct kernel_scratch *scratch = bpf_map_lookup_elem(&kernel_scratches, &program);
	struct walked *walked;
	u64 hash;

	if (!kernel_stacks || !scratch)
		return 0;
	walked = (void *)&scratch->words[HEAD_WORDS - 1];
	hash = walk_by_kernel(ctx, walked, 0);
	return hash ? tell_walked(scratch, walked, hash) : 0;
}

/* The hash of the current stack from `call_site` on; 0 if it could not be told. */
INLINE u64 kernel_stack(void *args, u32 program, u64 call_site)
{
	u32 words, set, audited;
	struct kernel_scratch *scratch;
	struct window *window;
	struct walked *walked;
	u64 hash, second;

	if (!kernel_stacks)
		return 0;
	scratch = bpf_map_lookup_elem(&kernel_scratches, &program);
	window = bpf_map_lookup_elem(&kernel_windows, &program);
	if (!scratch || !window)
		return 0;
	walked = (void *)&scratch->words[HEAD_WORDS - 1];
	words = look_at_stack(window, args);
	set = known_set(call_site, words);
	audited = is_audited(window);
	hash = known_stack(window, program, set, call_site, words);
	if (hash && !audited)
		return hash;
	if (!hash && walk_by_tables(window, walked, call_site, words)) {
		walked->first = 0;
		hash = mixed(window->hash);
		if (!audited) {
			hash = tell_walked(scratch, walked, hash);
			if (hash)
				remember_walk(window, program, set, call_site, words);
			return hash;
		}
	}
	/* the first walk of its kind, or one that tables do not do, or to see whether they do it right */
	second = walk_by_kernel(args, walked, call_site ? call_site : window->start);
	if (!second)
		return 0;
	if (hash && hash != second)
		count_kernel(ML_KERNEL_DEFECT_STACK_MISTAKEN, 1);
	if (!window->start && learn_start(window, walked, words) && !call_site)
		second = hash_frames(walked, window->start);
	return tell_walked(scratch, walked, second);
}

#endif
