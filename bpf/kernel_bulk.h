/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Objects that are allocated and freed many at a time, or through RCU: no tracepoint tells them,
 * so the functions themselves are probed. kfree_rcu() ends in kmem_cache_free_bulk(), or, since
 * 6.18, in per-CPU sheaves that are given back as a whole.
 */
#ifndef MEMLEAK_KERNEL_BULK_H
#define MEMLEAK_KERNEL_BULK_H

#include "kernel_events.h"

static long (*bpf_get_func_arg)(void *ctx, u32 number, u64 *value) = (void *)183;
static long (*bpf_get_func_ret)(void *ctx, u64 *value) = (void *)184;

/* Objects of one call that are looked at; kfree_rcu() frees at most 509 at once. */
#define MOST_FREED 512
#define MOST_ALLOCATED 128

/* Argument of the probed function, from 0. */
INLINE u64 argument(void *ctx, u32 number)
{
	u64 value = 0;

	bpf_get_func_arg(ctx, number, &value);
	return value;
}

/* The object at a place of an array of them; 0 if it cannot be read. */
INLINE u64 object_at(u64 objects, u32 at)
{
	u64 object = 0;

	bpf_probe_read_kernel(&object, sizeof(object), (void *)(objects + 8 * (u64)at));
	return object;
}

/* kmem_cache_free_bulk(cache, count, objects) */
SEC("fentry/kmem_cache_free_bulk")
int on_cache_free_bulk(void *ctx)
{
	u64 count, objects;

	if (!is_recording())
		return 0;
	count = argument(ctx, 1);
	objects = argument(ctx, 2);
	for (u32 at = 0; at < MOST_FREED; at++) {
		if (at >= count)
			break;
		slab_freed(ML_OP_KMEM_CACHE_FREE_BULK, object_at(objects, at));
	}
	if (count > MOST_FREED)
		count_kernel(ML_KERNEL_LOST_RELEASE_BULK, count - MOST_FREED);
	return 0;
}

/*
 * __kfree_rcu_sheaf(cache, object): told at entry, before the object can be given to anyone. Where
 * the function declines, kfree_rcu() frees it another way, which is then a second free of it.
 */
SEC("fentry/__kfree_rcu_sheaf")
int on_kfree_rcu(void *ctx)
{
	if (is_recording())
		slab_freed(ML_OP_KFREE_RCU, argument(ctx, 1));
	return 0;
}

/* kmem_cache_alloc_bulk(cache, gfp, count, objects), which returns how many it allocated */
SEC("fexit/kmem_cache_alloc_bulk")
int on_cache_alloc_bulk(void *ctx)
{
	struct allocated what = {.op = ML_OP_KMEM_CACHE_ALLOC_BULK};
	u64 count = 0, objects, stack;

	if (!is_recording() || !is_chosen(&what.ids) || bpf_get_func_ret(ctx, &count))
		return 0;
	count = (u32)count;
	if (!count)
		return 0;
	objects = argument(ctx, 3);
	what.gfp = argument(ctx, 1);
	describe_cache(&what, PROGRAM_CACHE_ALLOC_BULK, argument(ctx, 0));
	stack = kernel_stack_here(ctx, PROGRAM_CACHE_ALLOC_BULK);
	for (u32 at = 0; at < MOST_ALLOCATED; at++) {
		if (at >= count)
			break;
		what.addr = object_at(objects, at);
		if (!what.addr)
			continue;
		track(tracked_key(DOMAIN_SLAB, what.addr));
		send_kernel_alloc(&what, PROGRAM_CACHE_ALLOC_BULK, stack);
	}
	if (count > MOST_ALLOCATED)
		count_kernel(ML_KERNEL_LOST_ALLOC_BULK, count - MOST_ALLOCATED);
	return 0;
}

#endif
