/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose allocations are recorded, and which frees with them.
 *
 * A choice is made among allocations; a free counts whoever does it: kernel objects are often freed
 * by other tasks, in RCU callbacks for example. So chosen allocations are remembered until they are
 * freed. Where the set of them is full, every free is written from then on.
 *
 * Which processes are chosen, is_chosen_process() knows: of kernel_pids.h, or of who includes this.
 */
#ifndef MEMLEAK_KERNEL_CHOOSE_H
#define MEMLEAK_KERNEL_CHOOSE_H

#include "kernel_records.h"
#include "ring.h"

/* The recorder itself, whose allocations are left out. */
const volatile u32 own_tgid = 0;
/* What is chosen by; all that are set must hold. */
const volatile u32 choose_pid = 0;
const volatile u32 choose_comm = 0;
const volatile u32 choose_cgroup = 0;
/* A thread's name, in two words. */
const volatile u64 chosen_comm_low = 0;
const volatile u64 chosen_comm_high = 0;
/* The group's id, and how deep below the root it lies: tasks in groups below it belong to it. */
const volatile u64 chosen_cgroup = 0;
const volatile u32 chosen_cgroup_level = 0;

static long (*bpf_get_current_comm)(void *name, u32 size) = (void *)16;
static u64 (*bpf_get_current_ancestor_cgroup_id)(int level) = (void *)123;

/* Chosen allocations that live, by tracked_key(). Preallocated: nothing allocates in here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, u8);
} tracked SEC(".maps");

/* Not 0: the tracked set was full, and every free is written. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} all_frees SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_KERNEL_COUNTERS);
	__type(key, u32);
	__type(value, u64);
} kernel_counters SEC(".maps");

enum kernel_domain { DOMAIN_SLAB = 0, DOMAIN_PAGE = 1, DOMAIN_PERCPU = 2 };

INLINE void count_kernel(u32 counter, u64 number)
{
	u64 *value = bpf_map_lookup_elem(&kernel_counters, &counter);

	if (value) /* an interrupt may count meanwhile */
		__sync_fetch_and_add(value, number);
}

INLINE int is_choosing(void)
{
	return choose_pid || choose_comm || choose_cgroup;
}

/* Whether allocations of the current task are recorded, whose pid and tid are put into `ids`. */
INLINE int is_chosen(u64 *ids)
{
	u64 comm[2] = {};
	u32 pid;

	*ids = bpf_get_current_pid_tgid();
	pid = *ids >> 32;

	if (pid == own_tgid)
		return 0;
	if (choose_pid && !is_chosen_process(pid))
		return 0;
	if (choose_cgroup &&
	    bpf_get_current_ancestor_cgroup_id(chosen_cgroup_level) != chosen_cgroup)
		return 0;
	if (choose_comm) {
		bpf_get_current_comm(comm, sizeof(comm));
		if (comm[0] != chosen_comm_low || comm[1] != chosen_comm_high)
			return 0;
	}
	return 1;
}

/* Addresses of all domains in one set: page frames and percpu offsets are small or aligned. */
INLINE u64 tracked_key(enum kernel_domain domain, u64 value)
{
	return value << 2 | domain;
}

INLINE void write_all_frees(void)
{
	u32 zero = 0;
	u32 *all = bpf_map_lookup_elem(&all_frees, &zero);

	count_kernel(ML_KERNEL_UNTRACKED, 1);
	if (all)
		*(volatile u32 *)all = 1;
}

/* Remembers a chosen allocation. */
INLINE void track(u64 key)
{
	u8 live = 1;

	if (is_choosing() && bpf_map_update_elem(&tracked, &key, &live, 0))
		write_all_frees();
}

#define ENOENT 2

/* Whether a free is to be written; what it frees is remembered no longer. */
INLINE int untrack(u64 key)
{
	u32 zero = 0, *all;

	if (!is_choosing())
		return 1;
	/* any other failure leaves open whether it was there */
	if (bpf_map_delete_elem(&tracked, &key) != -ENOENT)
		return 1;
	all = bpf_map_lookup_elem(&all_frees, &zero);
	return all && *(volatile u32 *)all;
}

#endif
