/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The few kernel types, constants and helpers that the probes use; nothing else is declared. */
#ifndef MEMLEAK_KERNEL_H
#define MEMLEAK_KERNEL_H

#include "memleak.h"

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* BTF map definitions: a member's type carries the number or the type. */
#define __uint(name, value) int(*name)[value]
#define __type(name, type) type *name

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_MAP_TYPE_TASK_STORAGE 29

#define BPF_ANY 0
#define BPF_NOEXIST 1 /* in an update: the key must be new */

#define BPF_F_NO_PREALLOC 1
#define BPF_F_MMAPABLE 1024

#define BPF_LOCAL_STORAGE_GET_F_CREATE 1

#define SIGSTOP 19

#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_FORCE_WAKEUP 2
#define BPF_RB_PROD_POS 3

/* The x86-64 registers as a uprobe sees them; user-space ABI, never relocated. */
struct pt_regs {
	u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
	u64 rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss;
};

struct task_struct;

/* Members are found where the running kernel has them. */
#define RELOCATED __attribute__((preserve_access_index))

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live; /* threads that have not ended */
	u32 flags;
	int group_exit_code;
} RELOCATED;

/* A flavour: the kernel's task_struct, of which these are known here. */
struct task_struct___known {
	int exit_code;
	u32 tgid;
	void *mm;
	struct task_struct___known *real_parent;
	struct task_struct___known *group_leader;
	struct signal_struct *signal;
} RELOCATED;

/* The same, for its name. */
struct task_struct___named {
	char comm[16];
} RELOCATED;

/* Helper numbers: include/uapi/linux/bpf.h. */
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				   u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_send_signal)(u32 signal) = (void *)109;
static long (*bpf_probe_read_user)(void *dst, u32 size, const void *src) = (void *)112;
static long (*bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static long (*bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static u64 (*bpf_ringbuf_query)(void *ring, u64 what) = (void *)134;
static void *(*bpf_task_storage_get)(void *map, struct task_struct *task, void *value,
				     u64 flags) = (void *)156;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static u64 (*bpf_get_attach_cookie)(void *ctx) = (void *)174;
static long (*bpf_loop)(u32 count, void *callback, void *ctx, u64 flags) = (void *)181;

/* Where a member lies in the running kernel. */
#define FIELD_OFFSET(type, field) __builtin_preserve_field_info(((type *)0)->field, 0)

/* Reads a member of a kernel structure. */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))

#endif
