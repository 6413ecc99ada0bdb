/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Puts the kernel's allocations and frees into the ring, and the names of caches. */
#ifndef MEMLEAK_KERNEL_EVENTS_H
#define MEMLEAK_KERNEL_EVENTS_H

#include "kernel_stack.h"

static long (*bpf_probe_read_kernel_str)(void *dst, u32 size, const void *src) = (void *)115;

struct kmem_cache {
	unsigned int size;
	unsigned int object_size;
	const char *name;
} RELOCATED;

/* What is known of a cache. Its name tells a new cache at an old one's address. */
struct known_cache {
	u64 name;
	u32 size;
	u32 object_size;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64); /* its address */
	__type(value, struct known_cache);
} caches SEC(".maps");

/* An allocation to be told. */
struct allocated {
	u64 call_site; /* where the allocating function returns to; 0: not known */
	u64 addr;
	u64 size;
	u64 size2;
	u64 cache;
	u32 gfp;
	u16 op; /* enum ml_kernel_op */
};

INLINE void fill_kernel_head(struct ml_point *head, u16 record, u16 op, u64 addr)
{
	u64 ids = bpf_get_current_pid_tgid();

	head->record = record;
	head->op = op;
	head->space = ML_KERNEL_SPACE;
	head->pid = ids >> 32;
	head->tid = (u32)ids;
	head->addr = addr;
	head->ts = bpf_ktime_get_ns();
}

INLINE void send_kernel_alloc(const struct allocated *what, u64 stack)
{
	struct ml_kernel_alloc *alloc = bpf_ringbuf_reserve(&events, sizeof(*alloc), 0);

	if (!alloc) {
		count_kernel(ML_KERNEL_LOST_ALLOC_RING_FULL, 1);
		return;
	}
	fill_kernel_head(&alloc->head, ML_RECORD_KERNEL_ALLOC, what->op, what->addr);
	alloc->size = what->size;
	alloc->stack = stack;
	alloc->size2 = what->size2;
	alloc->cache = what->cache;
	alloc->gfp = what->gfp;
	alloc->unused = 0;
	bpf_get_current_comm(alloc->comm, sizeof(alloc->comm));
	bpf_ringbuf_submit(alloc, wake_flags(sizeof(*alloc) + 8));
}

INLINE void send_kernel_point(u16 op, u64 addr)
{
	struct ml_point *point = bpf_ringbuf_reserve(&events, sizeof(*point), 0);

	if (!point) {
		count_kernel(ML_KERNEL_LOST_RELEASE_RING_FULL, 1);
		return;
	}
	fill_kernel_head(point, ML_RECORD_POINT, op, addr);
	bpf_ringbuf_submit(point, wake_flags(sizeof(*point) + 8));
}

INLINE void send_kernel_range(u16 op, u64 addr, u64 size)
{
	struct ml_range *range = bpf_ringbuf_reserve(&events, sizeof(*range), 0);

	if (!range) {
		count_kernel(ML_KERNEL_LOST_RELEASE_RING_FULL, 1);
		return;
	}
	fill_kernel_head(&range->head, ML_RECORD_RANGE, op, addr);
	range->size = size;
	bpf_ringbuf_submit(range, wake_flags(sizeof(*range) + 8));
}

/* What kmalloc(0) returns is no block. */
#define ZERO_SIZE_PTR 16

/* Tells the free of a slab object. */
INLINE void slab_freed(u16 op, u64 addr)
{
	if (addr > ZERO_SIZE_PTR && untrack(tracked_key(DOMAIN_SLAB, addr)))
		send_kernel_point(op, addr);
}

/* Fills in what the cache says of its objects, and tells its name before it is first used. */
INLINE void describe_cache(struct allocated *what, u64 address)
{
	struct kmem_cache *cache = (void *)address;
	struct known_cache now = {}, *known = bpf_map_lookup_elem(&caches, &address);
	struct ml_cache *told;
	const char *name = 0;

	READ(name, cache->name);
	if (!known || known->name != (u64)name) {
		told = bpf_ringbuf_reserve(&events, sizeof(*told), 0);
		if (!told) /* the event that follows finds no room either, or has no name */
			return;
		told->record = ML_RECORD_CACHE;
		told->unused[0] = told->unused[1] = told->unused[2] = 0;
		told->cache = address;
		__builtin_memset(told->name, 0, sizeof(told->name));
		bpf_probe_read_kernel_str(told->name, sizeof(told->name), name);
		bpf_ringbuf_submit(told, BPF_RB_NO_WAKEUP);
		now.name = (u64)name;
		READ(now.size, cache->size);
		READ(now.object_size, cache->object_size);
		/* where it finds no place, the name is told again */
		bpf_map_update_elem(&caches, &address, &now, 0);
		known = &now;
	}
	what->cache = address;
	if (!what->size) {
		what->size = known->object_size;
		what->size2 = known->size;
	}
}

#endif
