/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where address spaces begin and end: fork, vfork and exec.
 *
 * A process that begins one is held until user space has put its probes on: a child at its return
 * from fork, a program before its first instruction and again when its libraries are mapped (that is
 * maps_changed.h's to see). recorder/src/attachment.rs is the other side.
 */
#ifndef MEMLEAK_FOLLOW_H
#define MEMLEAK_FOLLOW_H

#include "process.h"
#include "stop.h"

/* Whether children are recorded (--follow). */
const volatile u32 follow = 0;

/* Flags of a child's address space: ML_SPACE_OWN | ML_SPACE_FORKED, or 0 if one set serves all. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} child_flags SEC(".maps");

/* What user space is to look at: a ring of its own, that must not wait behind events. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16384);
} map_changes SEC(".maps");

/* Asks user space to look at a process. If there is no room, it finds the held ones by itself. */
INLINE int ask(u32 pid, u64 ticket)
{
	struct ml_map_change *change = bpf_ringbuf_reserve(&map_changes, sizeof(*change), 0);

	if (!change)
		return 0;
	change->ticket = ticket;
	change->pid = pid;
	change->unused = 0;
	bpf_ringbuf_submit(change, BPF_RB_FORCE_WAKEUP);
	return 1;
}

/* Holds this process before its next instruction, until user space has looked at it. */
INLINE void hold(void)
{
	struct ml_stops *known;

	if (recording_state() == ML_CLOSED) /* nobody looks any more */
		return;
	known = current_stops();
	if (!known)
		return;
	stop(&known->by_reason[ML_STOP_HELD]);
	ask(bpf_get_current_pid_tgid() >> 32, 0);
}

INLINE u32 flags_of_child(void)
{
	u32 zero = 0;
	u32 *flags = bpf_map_lookup_elem(&child_flags, &zero);

	return flags ? *(volatile u32 *)flags : 0;
}

/* A process is about to begin, its parent tells. Threads begin here, too. */
SEC("raw_tp/sched_process_fork")
int on_fork(u64 *args)
{
	struct task_struct___known *parent = (void *)args[0], *child = (void *)args[1];
	struct ml_space *space = current_space(), begun = {};
	void *old_memory = 0, *memory = 0;
	u32 pid = 0;

	if (!space)
		return 0;
	READ(pid, child->tgid);
	READ(old_memory, parent->mm);
	READ(memory, child->mm);
	if (!pid || pid == (u32)(bpf_get_current_pid_tgid() >> 32))
		return 0; /* a thread */
	begun.table = space->table;
	if (memory == old_memory) {
		begun.id = space->id;
		begun.pid = space->pid;
		begun.flags = (space->flags & ML_SPACE_OWN) | ML_SPACE_ALIAS;
	} else {
		if (!follow)
			return 0;
		begun.id = next_space();
		begun.pid = pid;
		begun.flags = flags_of_child();
	}
	if (bpf_map_update_elem(&spaces, &pid, &begun, BPF_ANY)) {
		count(ML_LOST_NO_SPACE);
		return 0;
	}
	if (begun.flags & ML_SPACE_ALIAS)
		return 0;
	send_process(ML_RECORD_FORK, 0, begun.id, pid, space->pid, space->id);
	if (!(begun.flags & ML_SPACE_FORKED))
		ask(pid, 0);
	return 0;
}

/* A system call returns; told here is a child's return from fork, before its first instruction. */
SEC("raw_tp/sys_exit")
int on_return(u64 *args)
{
	struct ml_space *space;

	if (args[1])
		return 0;
	space = current_space();
	if (!space || !(space->flags & ML_SPACE_FORKED))
		return 0;
	__sync_fetch_and_and(&space->flags, ~ML_SPACE_FORKED);
	hold();
	return 0;
}

/*
 * exec: the old address space is gone with all that it held; what follows is another program's. The
 * thread that did it has its process's pid from here on.
 */
SEC("raw_tp/sched_process_exec")
int on_exec(u64 *args)
{
	struct task_struct___known *task = (void *)args[0], *parent = 0;
	struct ml_space *space = current_space();
	u32 pid = bpf_get_current_pid_tgid() >> 32, parent_pid = 0, id;

	if (!space)
		return 0;
	if (space->flags & ML_SPACE_ALIAS) {
		if (!follow) {
			bpf_map_delete_elem(&spaces, &pid);
			return 0;
		}
		space->pid = pid;
		space->flags = flags_of_child() & ML_SPACE_OWN;
	}
	id = next_space();
	space->exec_tid = (u32)args[1];
	/* both at once: what user space says of the old program must not meet the new one */
	__sync_lock_test_and_set((u64 *)space, (u64)ML_EMPTY_TABLE << 32 | id);
	__sync_fetch_and_or(&space->flags, ML_SPACE_STARTING);
	READ(parent, task->real_parent);
	READ(parent_pid, parent->tgid);
	send_process(ML_RECORD_EXEC, 0, id, pid, 0, parent_pid);
	hold();
	return 0;
}

/*
 * Not attached: user space runs it to say where the mappings of an address space are, and which of
 * its flags are over, unless another one has begun.
 */
SEC("raw_tp/settle")
int settle(u64 *args)
{
	u32 pid = args[0], id = args[1], table = args[2], over = args[3];
	struct ml_space *space = bpf_map_lookup_elem(&spaces, &pid);
	u64 old;

	if (!space)
		return 0;
	old = *(volatile u64 *)space;
	if ((u32)old != id ||
	    __sync_val_compare_and_swap((u64 *)space, old, (u64)table << 32 | id) != old)
		return 0;
	__sync_fetch_and_and(&space->flags, ~over);
	return 1;
}

#endif
