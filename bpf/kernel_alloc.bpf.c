// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The probes in the kernel alone: for recordings without probes on programs. */
#include "kernel_pids.h"
#include "kernel_alloc.h"
#include "kernel_bulk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
