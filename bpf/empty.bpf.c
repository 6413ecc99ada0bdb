// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes that do nothing: the floor that benchmarks compare with. */
#include "kernel.h"

SEC("uprobe/enter_nothing")
int enter_nothing(struct pt_regs *regs)
{
	return 0;
}

SEC("uretprobe/leave_nothing")
int leave_nothing(struct pt_regs *regs)
{
	return 0;
}

SEC("raw_tp/nothing")
int on_nothing(void *ctx)
{
	return 0;
}

/*
 * The least that a recorder of every event does: it puts the time and an address into a line of the CPU's own.
 * Neither whose event it is, nor whether anybody has read what lay there.
 */
#define LEAST_CPUS 64
#define LEAST_SLOTS 1024

struct least_position {
	u64 next;
	u64 unused[7];
};
struct least_slot {
	u64 ts;
	u64 addr;
	u64 unused[6];
};
static struct least_position least_positions[LEAST_CPUS];
static struct least_slot least_slots[LEAST_CPUS * LEAST_SLOTS];

SEC("raw_tp/least")
int on_least(u64 *args)
{
	u32 cpu = bpf_get_smp_processor_id() & (LEAST_CPUS - 1);
	u32 index = cpu * LEAST_SLOTS + (least_positions[cpu].next++ & (LEAST_SLOTS - 1));

	least_slots[index].ts = bpf_ktime_get_ns();
	least_slots[index].addr = args[1];
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
