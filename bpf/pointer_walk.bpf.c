// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What a tracer does that leaves the stack to the kernel's walker, by frame pointers: the price that
 * benchmarks compare our own walk with. The events are ours, each with its raw frames behind it.
 */
#include "kernel.h"

#define BPF_F_USER_STACK (1 << 8)

static long (*bpf_get_stack)(void *ctx, void *buffer, u32 size, u64 flags) = (void *)67;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024 * 1024);
} events SEC(".maps");

/* Events that did not fit. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");

/* The call under way, and room for its event. */
struct call {
	u64 size;
	struct ml_alloc alloc;
	u64 frames[ML_MAX_FRAMES + 1]; /* one more: a mask bounds the length */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} calls SEC(".maps");

INLINE void fill_head(struct ml_point *head, u16 record, u16 op, u64 addr)
{
	u64 ids = bpf_get_current_pid_tgid();

	head->record = record;
	head->op = op;
	head->space = 1;
	head->pid = ids >> 32;
	head->tid = (u32)ids;
	head->addr = addr;
	head->ts = bpf_ktime_get_ns();
}

INLINE void count_lost(void)
{
	u32 zero = 0;
	u64 *value = bpf_map_lookup_elem(&lost, &zero);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("uprobe/enter_malloc")
int enter_malloc(struct pt_regs *regs)
{
	struct call *call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0,
						 BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (call)
		call->size = regs->rdi;
	return 0;
}

SEC("uretprobe/leave_malloc")
int leave_malloc(struct pt_regs *regs)
{
	struct call *call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	long bytes;

	if (!call)
		return 0;
	bytes = bpf_get_stack(regs, call->frames, 8 * ML_MAX_FRAMES, BPF_F_USER_STACK);
	if (bytes < 0)
		bytes = 0;
	fill_head(&call->alloc.head, ML_RECORD_ALLOC, ML_OP_MALLOC, regs->rax);
	call->alloc.size = call->size;
	call->alloc.stack = 0;
	if (bpf_ringbuf_output(&events, &call->alloc,
			       sizeof(call->alloc) + (bytes & (8 * ML_MAX_FRAMES + 7)),
			       BPF_RB_NO_WAKEUP))
		count_lost();
	return 0;
}

SEC("uprobe/enter_free")
int enter_free(struct pt_regs *regs)
{
	struct ml_point *point = bpf_ringbuf_reserve(&events, sizeof(*point), 0);

	if (!point) {
		count_lost();
		return 0;
	}
	fill_head(point, ML_RECORD_POINT, ML_OP_FREE, regs->rdi);
	bpf_ringbuf_submit(point, BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
