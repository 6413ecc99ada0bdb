/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Probes on the kernel's allocators: a program per tracepoint, with the tracepoint's own arguments
 * (raw_tp needs no tracefs). Their order differs between kernels; the kernel's own description of
 * its types tells which it is:
 *
 *   6.1 and later  kmalloc (site, ptr, asked, taken, gfp, node); kmem_cache_alloc (site, ptr,
 *                  cache, gfp, node); the _node events are gone
 *   6.0            all four: (site, ptr, cache, asked, taken, gfp, …)
 *   before         all four: (site, ptr, asked, taken, gfp, …)
 *   percpu         since 5.19 the site comes first, and bytes and gfp last
 */
#ifndef MEMLEAK_KERNEL_ALLOC_H
#define MEMLEAK_KERNEL_ALLOC_H

#include "kernel_events.h"

/* Of kernels since 6.1. */
struct trace_event_raw_kmalloc {
	u64 call_site;
} RELOCATED;

/* Of kernels before 6.1; `accounted` came together with the cache among the arguments. */
struct trace_event_raw_kmem_alloc {
	u8 accounted;
} RELOCATED;

struct trace_event_raw_percpu_alloc_percpu {
	u64 bytes_alloc;
} RELOCATED;

struct page {
	unsigned long flags;
} RELOCATED;

#define TYPE_EXISTS(type) __builtin_preserve_type_info(*(type *)0, 0)
#define TYPE_SIZE(type) __builtin_preserve_type_info(*(type *)0, 1)
#define FIELD_EXISTS(type, field) __builtin_preserve_field_info(((type *)0)->field, 2)

/* CPUs that there may be: a percpu block takes its size on each. */
const volatile u32 possible_cpus = 1;
/*
 * Where the kernel keeps the address of its first struct page; 0: not known, and page frames are
 * counted from another one.
 */
const volatile u64 vmemmap_at = 0;
const volatile u64 kernel_page_size = 4096;

INLINE int has_cache_among_arguments(void)
{
	return !TYPE_EXISTS(struct trace_event_raw_kmalloc) &&
	       FIELD_EXISTS(struct trace_event_raw_kmem_alloc, accounted);
}

/* Tells an allocation of a chosen task. */
INLINE int slab_allocated(void *ctx, u32 program, struct allocated *what)
{
	track(tracked_key(DOMAIN_SLAB, what->addr));
	send_kernel_alloc(what, program, kernel_stack(ctx, program, what->call_site));
	return 0;
}

INLINE int kmalloc_returned(u64 *args, u32 program)
{
	struct allocated what = {.op = ML_OP_KMALLOC, .call_site = args[0], .addr = args[1]};
	/* read here: of a choice of places clang makes a computed one, which the verifier forbids */
	u64 second = args[2], third = args[3], fourth = args[4];

	if (what.addr <= ZERO_SIZE_PTR || !is_recording() || !is_chosen(&what.ids))
		return 0;
	if (has_cache_among_arguments()) {
		what.size = third;
		what.size2 = fourth;
		what.gfp = args[5];
	} else {
		what.size = second;
		what.size2 = third;
		what.gfp = fourth;
	}
	return slab_allocated(args, program, &what);
}

INLINE int cache_alloc_returned(u64 *args, u32 program)
{
	struct allocated what = {
		.op = ML_OP_KMEM_CACHE_ALLOC, .call_site = args[0], .addr = args[1]};
	u64 second = args[2], third = args[3], fourth = args[4];

	if (!what.addr || !is_recording() || !is_chosen(&what.ids))
		return 0;
	if (TYPE_EXISTS(struct trace_event_raw_kmalloc)) {
		what.gfp = third;
		describe_cache(&what, program, second);
	} else if (has_cache_among_arguments()) {
		what.size = third;
		what.size2 = fourth;
		what.gfp = args[5];
		describe_cache(&what, program, second);
	} else {
		what.size = second;
		what.size2 = third;
		what.gfp = fourth;
	}
	return slab_allocated(args, program, &what);
}

SEC("raw_tp/kmalloc")
int on_kmalloc(u64 *args)
{
	return kmalloc_returned(args, PROGRAM_KMALLOC);
}

SEC("raw_tp/kmalloc_node")
int on_kmalloc_node(u64 *args)
{
	return kmalloc_returned(args, PROGRAM_KMALLOC_NODE);
}

SEC("raw_tp/kmem_cache_alloc")
int on_cache_alloc(u64 *args)
{
	return cache_alloc_returned(args, PROGRAM_CACHE_ALLOC);
}

SEC("raw_tp/kmem_cache_alloc_node")
int on_cache_alloc_node(u64 *args)
{
	return cache_alloc_returned(args, PROGRAM_CACHE_ALLOC_NODE);
}

SEC("raw_tp/kfree")
int on_kfree(u64 *args)
{
	if (is_recording())
		slab_freed(ML_OP_KFREE, args[1]);
	return 0;
}

SEC("raw_tp/kmem_cache_free")
int on_cache_free(u64 *args)
{
	if (is_recording())
		slab_freed(ML_OP_KMEM_CACHE_FREE, args[1]);
	return 0;
}

/* Number of the page frame that a struct page is for. */
INLINE u64 frame_of(u64 page)
{
	u64 first = vmemmap_at ? kernel_word(vmemmap_at) : 0;

	return (page - first) / TYPE_SIZE(struct page);
}

/* Blocks of more pages than this are not tracked page by page. */
#define TRACKED_ORDER 4

/* A block may be freed piece by piece: each of its pages is remembered. */
INLINE void track_pages(u64 frame, u32 order)
{
	if (!is_choosing())
		return;
	if (order > TRACKED_ORDER) {
		write_all_frees();
		return;
	}
	for (u32 at = 0; at < 1 << TRACKED_ORDER; at++) {
		if (at >= 1U << order)
			break;
		track(tracked_key(DOMAIN_PAGE, frame + at));
	}
}

INLINE int untrack_pages(u64 frame, u32 order)
{
	int tracked = 0;

	if (!is_choosing())
		return 1;
	for (u32 at = 0; at < 1 << TRACKED_ORDER; at++) {
		if (at && (order > TRACKED_ORDER || at >= 1U << order))
			break;
		tracked |= untrack(tracked_key(DOMAIN_PAGE, frame + at));
	}
	return tracked;
}

SEC("raw_tp/mm_page_alloc")
int on_page_alloc(u64 *args)
{
	struct allocated what = {.op = ML_OP_PAGE_ALLOC};
	u32 order = (u32)args[1];
	u64 frame;

	if (!args[0] || order > 31 || !is_recording() || !is_chosen(&what.ids))
		return 0;
	frame = frame_of(args[0]);
	what.addr = frame * kernel_page_size;
	what.size = kernel_page_size << order;
	what.size2 = what.size;
	what.gfp = args[2];
	track_pages(frame, order);
	send_kernel_alloc(&what, PROGRAM_PAGE_ALLOC, kernel_stack(args, PROGRAM_PAGE_ALLOC, 0));
	return 0;
}

SEC("raw_tp/mm_page_free")
int on_page_free(u64 *args)
{
	u32 order = (u32)args[1];
	u64 frame;

	if (!args[0] || order > 31 || !is_recording())
		return 0;
	frame = frame_of(args[0]);
	if (untrack_pages(frame, order))
		send_kernel_free(ML_OP_PAGE_FREE, frame * kernel_page_size,
				 kernel_page_size << order);
	return 0;
}

SEC("raw_tp/percpu_alloc_percpu")
int on_percpu_alloc(u64 *args)
{
	struct allocated what = {.op = ML_OP_PERCPU_ALLOC};
	u64 second = args[2], third = args[3], sixth = args[6];

	if (!is_recording() || !is_chosen(&what.ids))
		return 0;
	if (FIELD_EXISTS(struct trace_event_raw_percpu_alloc_percpu, bytes_alloc)) {
		what.call_site = args[0];
		what.size = third;
		what.addr = args[7];
		what.gfp = args[9];
	} else {
		what.size = second;
		what.addr = sixth;
	}
	what.size2 = what.size * possible_cpus;
	track(tracked_key(DOMAIN_PERCPU, what.addr));
	send_kernel_alloc(&what, PROGRAM_PERCPU_ALLOC,
			  kernel_stack(args, PROGRAM_PERCPU_ALLOC, what.call_site));
	return 0;
}

SEC("raw_tp/percpu_free_percpu")
int on_percpu_free(u64 *args)
{
	if (is_recording() && untrack(tracked_key(DOMAIN_PERCPU, args[2])))
		send_kernel_free(ML_OP_PERCPU_FREE, args[2], 0);
	return 0;
}

#endif
