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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
