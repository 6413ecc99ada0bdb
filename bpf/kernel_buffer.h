/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Each CPU has a buffer of its own, which user space reads through a mapping and merges with the others' by
 * time (recorder/src/kernel_mode/buffers.rs): no event of the kernel waits for another CPU, or for the ring.
 *
 * An interrupt may run another program on the same CPU at any place, so a slot is claimed by one atomic
 * addition, and is the claimer's alone until it is marked ready. Its time is taken after that: a reader that
 * saw how many slots are claimed knows of every event before.
 */
#ifndef MEMLEAK_KERNEL_BUFFER_H
#define MEMLEAK_KERNEL_BUFFER_H

#include "kernel_read.h"

static void (*bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;

/* Slots of each CPU: 2 to the power of this. */
const volatile u32 slots_shift = 10;
/* The reader is woken where these bits of a slot's number are 0. */
const volatile u64 wake_mask = 255;

/* By CPU, as many as there may be. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ml_kernel_position);
} kernel_positions SEC(".maps");

/* One CPU's slots after the other's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ml_kernel_slot);
} kernel_slots SEC(".maps");

/*
 * Programs that may be within each other on one CPU, and each claims its slot after it has looked for room:
 * so many slots stay free.
 */
#define NESTED 16

/* A claimed slot, to be filled and then marked ready; `number` is its number. Null: there is none. */
INLINE struct ml_kernel_slot *claim_slot(u64 *number)
{
	u32 cpu = bpf_get_smp_processor_id(), index;
	struct ml_kernel_position *position = bpf_map_lookup_elem(&kernel_positions, &cpu);
	void *nothing;

	if (!position)
		return 0;
	if (*(volatile u64 *)&position->claimed - *(volatile u64 *)&position->taken + NESTED >=
	    1ULL << slots_shift)
		return 0;
	*number = __sync_fetch_and_add(&position->claimed, 1);
	if (!((*number + 1) & wake_mask)) {
		nothing = bpf_ringbuf_reserve(&events, 8, 0);
		if (nothing)
			bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
	}
	index = cpu << slots_shift | ((u32)*number & ((1U << slots_shift) - 1));
	return bpf_map_lookup_elem(&kernel_slots, &index);
}

INLINE void mark_ready(struct ml_kernel_slot *slot, u64 number)
{
	asm volatile("" ::: "memory");
	*(volatile u64 *)&slot->ready = number + 1;
}

/* A claimed slot with what every event has. Null: there is none, and the loss is counted. */
INLINE struct ml_kernel_slot *begin_event(u16 op, u64 addr, u64 ids, u32 loss, u64 *number)
{
	struct ml_kernel_slot *slot = claim_slot(number);

	if (!slot) {
		count_kernel(loss, 1);
		return 0;
	}
	slot->ts = bpf_ktime_get_ns();
	slot->pid = ids >> 32;
	slot->tid = (u32)ids;
	slot->op = op;
	slot->addr = addr;
	return slot;
}

/* What the program last told as its thread's name on this CPU, by enum kernel_program. */
struct told_name {
	u64 low, high;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_KERNEL_PROGRAMS);
	__type(key, u32);
	__type(value, struct told_name);
} told_names SEC(".maps");

/* Tells the current thread's name unless it is the last one told; 0 if it finds no slot. */
INLINE int tell_name(u32 program)
{
	struct told_name *told = bpf_map_lookup_elem(&told_names, &program);
	u64 *name = (void *)bpf_get_current_task_btf() +
		    FIELD_OFFSET(struct task_struct___named, comm);
	u64 low = name[0], high = name[1], number;
	struct ml_kernel_slot *slot;

	if (!told)
		return 0;
	if (told->low == low && told->high == high)
		return 1;
	slot = claim_slot(&number);
	if (!slot)
		return 0;
	slot->op = ML_OP_NAME;
	slot->program = program;
	slot->addr = low;
	slot->size = high;
	mark_ready(slot, number);
	told->low = low;
	told->high = high;
	return 1;
}

#endif
