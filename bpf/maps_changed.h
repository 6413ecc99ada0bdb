/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Libraries that are opened while recording: the loader calls a function of its own when their
 * mappings are in place and none of their code has run. The thread is held there, in the kernel,
 * until user space knows them: no signal, and nothing outside of the process can tell.
 * recorder/src/openings.rs is the other side.
 */
#ifndef MEMLEAK_MAPS_CHANGED_H
#define MEMLEAK_MAPS_CHANGED_H

#include "follow.h"

struct tickets {
	u64 given;   /* so many so far */
	u64 ignored; /* the last one whose thread went on before user space took it up */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tickets);
} map_tickets SEC(".maps");

/*
 * What user space says to the tickets that share a place: twice the number of the last one it took
 * up, and one more when it is done with it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ML_MAP_ANSWERS);
	__type(key, u32);
	__type(value, u64);
} map_answers SEC(".maps");

/*
 * A thread is held no longer than this until user space takes up its ticket; 0: none is, and mappings
 * are learnt when they are met. Somebody who works on it gets more time.
 */
const volatile u64 hold_ns = 0;
#define HOLD_FACTOR 25

/*
 * Kernels that do not preempt leave the CPU to a program for as long as it runs: others wait behind it,
 * among them what brings the library from the disk. So it is given away between looks, by a read of the
 * thread's own memory: on the way to it the kernel lets others run. Kernels before 6.0 let no probe do
 * that; there a thread is held for a fraction of the time.
 */
static long (*bpf_copy_from_user_task)(void *dst, u32 size, const void *src,
				       struct task_struct *task, u64 flags) = (void *)191;
#define HOLD_BUSY_FRACTION 8

/* The most that bpf_loop does; each takes so many looks, of some 50 ns: more than the time there is. */
#define HOLD_TURNS (8 * 1024 * 1024)
#define HOLD_LOOKS 16

/* r_state of the loader's r_debug */
#define RT_CONSISTENT 0

struct wait {
	u64 ticket;
	u64 until_ns;
	u64 hold_ns;
	u64 code; /* of the thread */
	u16 taken_up;
	u16 answered;
};

/* What user space said last to tickets of this one's place. */
INLINE u64 said_to(u64 ticket)
{
	u32 place = ticket & (ML_MAP_ANSWERS - 1);
	u64 *answer = bpf_map_lookup_elem(&map_answers, &place);

	return answer ? *(volatile u64 *)answer : 0;
}

/* Where nobody looks, as when the recorder is stopped, one thread waits in vain, and no other. */
INLINE int is_anybody_there(const struct tickets *tickets)
{
	u64 ignored = *(volatile const u64 *)&tickets->ignored;

	return said_to(ignored) >= 2 * ignored;
}

/* One look. Returns 1 if there is nothing to wait for any more. */
INLINE int look_for_answer(struct wait *wait)
{
	u64 said = said_to(wait->ticket);

	if (said > 2 * wait->ticket) {
		wait->answered = 1;
		return 1;
	}
	if (said == 2 * wait->ticket && !wait->taken_up) {
		wait->taken_up = 1;
		wait->until_ns += HOLD_FACTOR * wait->hold_ns;
	}
	return bpf_ktime_get_ns() >= wait->until_ns;
}

/* Callbacks of bpf_loop. Return 1 to stop. */
static long await_answer(u32 index, struct wait *wait)
{
	for (u32 look = 0; look < HOLD_LOOKS; look++)
		if (look_for_answer(wait))
			return 1;
	return 0;
}

static long await_answer_aside(u32 index, struct wait *wait)
{
	u64 nothing;

	if (await_answer(index, wait))
		return 1;
	bpf_copy_from_user_task(&nothing, sizeof(nothing), (void *)wait->code,
				bpf_get_current_task_btf(), 0);
	return 0;
}

/*
 * _dl_debug_state. The cookie is the distance from the probed instruction to r_state, 0 where it is
 * unknown: then every call is taken for the one that matters.
 */
INLINE int wait_until_known(struct pt_regs *regs, int gives_cpu_away)
{
	u64 distance = bpf_get_attach_cookie(regs);
	u32 zero = 0, state = RT_CONSISTENT;
	struct tickets *tickets = bpf_map_lookup_elem(&map_tickets, &zero);
	struct ml_space *space = current_space();
	struct wait wait = {};

	if (!space)
		return 0;
	/* about to map, or to unmap: nothing is known yet */
	if (distance && !bpf_probe_read_user(&state, sizeof(state), (void *)(regs->rip + distance)) &&
	    state != RT_CONSISTENT)
		return 0;
	/* the program's first libraries: their probes take longer to put on than a thread may wait */
	if (space->flags & ML_SPACE_STARTING) {
		__sync_fetch_and_and(&space->flags, ~ML_SPACE_STARTING);
		hold();
		return 0;
	}
	if (!hold_ns || !tickets || !is_recording())
		return 0;
	wait.ticket = __sync_fetch_and_add(&tickets->given, 1) + 1;
	wait.code = regs->rip;
	wait.hold_ns = gives_cpu_away ? hold_ns : hold_ns / HOLD_BUSY_FRACTION;
	wait.until_ns = bpf_ktime_get_ns() + wait.hold_ns;
	if (ask(space->pid, wait.ticket) && is_anybody_there(tickets)) {
		if (gives_cpu_away)
			bpf_loop(HOLD_TURNS, await_answer_aside, &wait, 0);
		else
			bpf_loop(HOLD_TURNS, await_answer, &wait, 0);
		if (!wait.taken_up && !wait.answered)
			*(volatile u64 *)&tickets->ignored = wait.ticket;
	}
	if (!wait.answered)
		count(ML_DEFECT_MAPPINGS_LATE);
	return 0;
}

SEC("uprobe.s/maps_changed")
int maps_changed(struct pt_regs *regs)
{
	return wait_until_known(regs, 1);
}

SEC("uprobe/maps_changed_busy")
int maps_changed_busy(struct pt_regs *regs)
{
	return wait_until_known(regs, 0);
}

#endif
