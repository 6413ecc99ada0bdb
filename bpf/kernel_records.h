/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract of the probes in the kernel with user space: what they put into the ring beside
 * struct ml_point and struct ml_range (memleak.h). recorder/src/kernel_mode/wire.rs repeats it in Rust;
 * a test there reads this file.
 */
#ifndef MEMLEAK_KERNEL_RECORDS_H
#define MEMLEAK_KERNEL_RECORDS_H

#include "memleak.h"

/* Operations, in numbers that those of user space (enum ml_op) do not reach. */
enum ml_kernel_op {
	ML_OP_KMALLOC = 1024,
	ML_OP_KMEM_CACHE_ALLOC = 1025,
	ML_OP_KMEM_CACHE_ALLOC_BULK = 1026,
	ML_OP_KFREE = 1027,
	ML_OP_KMEM_CACHE_FREE = 1028,
	ML_OP_KMEM_CACHE_FREE_BULK = 1029,
	ML_OP_KFREE_RCU = 1030,
	ML_OP_PAGE_ALLOC = 1031,
	ML_OP_PAGE_FREE = 1032,
	ML_OP_PERCPU_ALLOC = 1033,
	ML_OP_PERCPU_FREE = 1034,
};

enum ml_kernel_record {
	ML_RECORD_KERNEL_ALLOC = 1024, /* struct ml_kernel_alloc */
	ML_RECORD_CACHE = 1025,	       /* struct ml_cache */
};

/* Address space of the kernel, also that of its stacks (struct ml_stack). */
#define ML_KERNEL_SPACE 0

#define ML_COMM 16
#define ML_CACHE_NAME 48

/* An allocation in the kernel. 88 bytes. */
struct ml_kernel_alloc {
	struct ml_point head;
	u64 size;  /* asked for */
	u64 stack; /* hash, 0 = none */
	u64 size2; /* what it takes: slab: of the cache's objects; percpu: on all CPUs */
	u64 cache; /* address of its struct kmem_cache; 0: the kernel does not tell it */
	u32 gfp;
	u32 unused;
	u8 comm[ML_COMM];
};

/* A cache's name, told before its first use. 64 bytes. */
struct ml_cache {
	u16 record; /* ML_RECORD_CACHE */
	u16 unused[3];
	u64 cache;
	u8 name[ML_CACHE_NAME];
};

/* Per-CPU counters: events lost, then events kept with a defect, then the tracked set. */
enum ml_kernel_counter {
	ML_KERNEL_LOST_ALLOC_RING_FULL = 0,
	ML_KERNEL_LOST_RELEASE_RING_FULL = 1,
	ML_KERNEL_LOST_ALLOC_BULK = 2, /* more objects in one call than are looked at */
	ML_KERNEL_LOST_RELEASE_BULK = 3,
	ML_KERNEL_DEFECT_STACK_UNPUBLISHED = 4,
	ML_KERNEL_DEFECT_STACK_UNREAD = 5,
	ML_KERNEL_UNTRACKED = 6, /* chosen allocations that found no place in the tracked set */
	ML_KERNEL_DEFECT_STACK_MISTAKEN = 7, /* the walk by tables came to another one */
	ML_KERNEL_COUNTERS = 8,
};

ML_SIZE(struct ml_kernel_alloc, 88);
ML_SIZE(struct ml_cache, 64);

#endif
