/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract of the probes in the kernel with user space: the slots of the CPUs' buffers, and what
 * goes through the ring beside stacks (memleak.h). recorder/src/kernel_mode/wire.rs repeats it in Rust; a
 * test there reads this file.
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
	ML_RECORD_CACHE = 1025, /* struct ml_cache */
};

/* Address space of the kernel, also that of its stacks (struct ml_stack). */
#define ML_KERNEL_SPACE 0

#define ML_COMM 16 /* bytes of a name */
#define ML_CACHE_NAME 48

/*
 * Programs that tell allocations. Each has its own memory: an interrupt in one of them may run another
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
	PROGRAMS, /* at most ML_KERNEL_PROGRAMS */
};
#define ML_KERNEL_PROGRAMS 8

/* Instead of an operation: a thread's name, which the program's allocations on this CPU have from here on. */
#define ML_OP_NAME 1023

/*
 * An event in the kernel, or a name: a slot of the CPU's buffer. Slots are numbered from 0 in the order in
 * which they were claimed; a number's place is its remainder. 64 bytes.
 */
struct ml_kernel_slot {
	u64 ready; /* the number, plus 1: written last */
	u64 ts;	   /* CLOCK_MONOTONIC, ns; taken after the slot was claimed */
	u64 addr;
	u64 size;  /* asked for; of pages that are freed: their bytes */
	u64 stack; /* hash, 0 = none */
	u32 slack; /* what it takes beyond `size`: slab: of the cache's objects; percpu: on all CPUs */
	u32 cache; /* the cache's number; 0: the kernel does not tell it */
	u32 gfp;
	u32 pid;
	u32 tid;
	u16 op;	     /* enum ml_kernel_op, or ML_OP_NAME: the name lies in `addr` and `size` */
	u16 program; /* enum kernel_program; of allocations and names */
};

/* How far a CPU's buffer is filled and emptied, in a line each: numbers of slots. 128 bytes. */
struct ml_kernel_position {
	u64 claimed;
	u64 unused[7];
	u64 taken; /* written by user space */
	u64 unused_too[7];
};

/* A cache's name, told before its first use. 56 bytes. */
struct ml_cache {
	u16 record; /* ML_RECORD_CACHE */
	u16 unused;
	u32 number; /* from 1; a name that is told again has another one */
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

ML_SIZE(struct ml_kernel_slot, 64);
ML_SIZE(struct ml_kernel_position, 128);
ML_SIZE(struct ml_cache, 56);

#endif
