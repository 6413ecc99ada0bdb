/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Puts the kernel's allocations and frees into the buffers, and the names of caches into the ring. */
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
	u32 number;
	u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64); /* its address */
	__type(value, struct known_cache);
} caches SEC(".maps");

/* The number of the cache that was told last. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} last_cache SEC(".maps");

/* An allocation to be told. */
struct allocated {
	u64 ids;       /* pid and tid of the task */
	u64 call_site; /* where the allocating function returns to; 0: not known */
	u64 addr;
	u64 size;
	u64 size2;
	u32 cache; /* its number */
	u32 gfp;
	u16 op; /* enum ml_kernel_op */
};

INLINE void send_kernel_alloc(const struct allocated *what, u32 program, u64 stack)
{
	struct ml_kernel_slot *slot = 0;
	u64 number;

	if (!tell_name(program)) {
		count_kernel(ML_KERNEL_LOST_ALLOC_RING_FULL, 1);
		return;
	}
	slot = begin_event(what->op, what->addr, what->ids, ML_KERNEL_LOST_ALLOC_RING_FULL,
			   &number);
	if (!slot)
		return;
	slot->size = what->size;
	slot->stack = stack;
	slot->slack = what->size2 - what->size;
	slot->cache = what->cache;
	slot->gfp = what->gfp;
	slot->program = program;
	mark_ready(slot, number);
}

INLINE void send_kernel_free(u16 op, u64 addr, u64 size)
{
	u64 number, ids = bpf_get_current_pid_tgid();
	struct ml_kernel_slot *slot =
		begin_event(op, addr, ids, ML_KERNEL_LOST_RELEASE_RING_FULL, &number);

	if (!slot)
		return;
	slot->size = size;
	mark_ready(slot, number);
}

/* What kmalloc(0) returns is no block. */
#define ZERO_SIZE_PTR 16

/* Tells the free of a slab object. */
INLINE void slab_freed(u16 op, u64 addr)
{
	if (addr > ZERO_SIZE_PTR && untrack(tracked_key(DOMAIN_SLAB, addr)))
		send_kernel_free(op, addr, 0);
}

/* Tells a cache's name, under a number that is in `now` then; 0 if the ring has no room. */
INLINE int tell_cache(struct known_cache *now)
{
	u32 zero = 0, *last = bpf_map_lookup_elem(&last_cache, &zero);
	struct ml_cache *told;

	if (!last)
		return 0;
	told = bpf_ringbuf_reserve(&events, sizeof(*told), 0);
	if (!told)
		return 0;
	now->number = __sync_fetch_and_add(last, 1) + 1;
	told->record = ML_RECORD_CACHE;
	told->unused = 0;
	told->number = now->number;
	__builtin_memset(told->name, 0, sizeof(told->name));
	bpf_probe_read_kernel_str(told->name, sizeof(told->name), (void *)now->name);
	bpf_ringbuf_submit(told, BPF_RB_NO_WAKEUP);
	return 1;
}

/* What the programs used last, by program and a hash of the address: each has places of its own. */
#define RECENT_BITS 6
struct recent_cache {
	u64 address;
	struct known_cache known;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_KERNEL_PROGRAMS << RECENT_BITS);
	__type(key, u32);
	__type(value, struct recent_cache);
} recent_caches SEC(".maps");

/* What is known of a cache, from all programs; it is told if it is not known. */
INLINE void look_up_cache(struct known_cache *now, u64 address)
{
	struct known_cache *known = bpf_map_lookup_elem(&caches, &address);
	struct kmem_cache *cache = (void *)address;

	if (known && known->name == now->name) {
		*now = *known;
		return;
	}
	READ(now->size, cache->size);
	READ(now->object_size, cache->object_size);
	/* where it finds no place among those known, the name is told again */
	if (tell_cache(now))
		bpf_map_update_elem(&caches, &address, now, 0);
}

/* Fills in what the cache says of its objects, and tells its name before it is first used. */
INLINE void describe_cache(struct allocated *what, u32 program, u64 address)
{
	struct known_cache now = {};
	u32 place = program << RECENT_BITS |
		    (u32)((address * HASH_MULTIPLIER) >> (64 - RECENT_BITS));
	struct recent_cache *recent = bpf_map_lookup_elem(&recent_caches, &place);

	now.name = kernel_word(address + FIELD_OFFSET(struct kmem_cache, name));
	if (!recent)
		return;
	if (recent->address != address || recent->known.name != now.name) {
		look_up_cache(&now, address);
		recent->address = now.number ? address : 0;
		recent->known = now;
	}
	what->cache = recent->known.number;
	if (!what->size) {
		what->size = recent->known.object_size;
		what->size2 = recent->known.size;
	}
}

#endif
