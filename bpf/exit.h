/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a recorded process ended. The recorder is not its parent: only the kernel can tell it.
 */
#ifndef MEMLEAK_EXIT_H
#define MEMLEAK_EXIT_H

#include "process.h"
#include "stop.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u32); /* tgid */
	__type(value, struct ml_exit);
} exits SEC(".maps");

#define SIGNAL_GROUP_EXIT 4

/* The entry of a recorded process; made on first use. */
INLINE struct ml_exit *exit_of(u32 pid)
{
	struct ml_exit none = {}, *known;

	if (!bpf_map_lookup_elem(&spaces, &pid))
		return 0;
	known = bpf_map_lookup_elem(&exits, &pid);
	if (known)
		return known;
	bpf_map_update_elem(&exits, &pid, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&exits, &pid);
}

/* What waitpid() will say of the process of this thread, its last one. */
INLINE int wait_status(struct task_struct___known *task, struct signal_struct *signal)
{
	struct task_struct___known *leader = 0;
	int status = 0;
	u32 flags = 0;

	READ(flags, signal->flags);
	if (flags & SIGNAL_GROUP_EXIT) {
		READ(status, signal->group_exit_code);
	} else {
		READ(leader, task->group_leader);
		READ(status, leader->exit_code);
	}
	return status;
}

/*
 * A thread ends; told is the last one of its process. It is forgotten with it: its pid may be
 * another's soon.
 */
SEC("raw_tp/sched_process_exit")
int on_exit(u64 *args)
{
	struct task_struct___known *task = (void *)args[0];
	struct signal_struct *signal = 0;
	struct ml_space *space = current_space();
	struct ml_exit *told;
	u32 pid = bpf_get_current_pid_tgid() >> 32, id, flags;
	int live = 1;

	if (!space)
		return 0;
	READ(signal, task->signal);
	if (!signal || READ(live, signal->live.counter) || live > 0)
		return 0;
	id = space->id;
	flags = space->flags;
	told = flags & ML_SPACE_ALIAS ? 0 : exit_of(pid);
	if (told) {
		told->status = wait_status(task, signal);
		told->ended = 1;
	}
	/* two threads may end at once: one of them takes it out */
	if (bpf_map_delete_elem(&spaces, &pid))
		return 0;
	bpf_map_delete_elem(&stops, &pid);
	bpf_map_delete_elem(&continued, &pid);
	if (told)
		send_process(ML_RECORD_EXIT, told->out_of_memory, id, pid, 0, told->status);
	return 0;
}

/* The OOM killer has chosen. Its argument is a pid in older kernels and a task since 6.8. */
SEC("raw_tp/mark_victim")
int on_oom(u64 *args)
{
	struct task_struct___known *task = (void *)args[0];
	struct ml_exit *told;
	u32 pid = (u32)args[0];

	if (args[0] >> 32 && READ(pid, task->tgid))
		return 0;
	told = exit_of(pid);
	if (told)
		told->out_of_memory = 1;
	return 0;
}

#endif
