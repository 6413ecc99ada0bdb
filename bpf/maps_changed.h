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

/* Tickets given out so far. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
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
#define HOLD_FACTOR 50

/* The most that bpf_loop does; each takes so many looks, of some 50 ns. */
#define HOLD_TURNS (8 * 1024 * 1024)
#define HOLD_LOOKS 4

/* r_state of the loader's r_debug */
#define RT_CONSISTENT 0

struct wait {
	u64 ticket;
	u64 until_ns;
	u32 place;
	u16 taken_up;
	u16 answered;
};

/* One look. Returns 1 if there is nothing to wait for any more. */
INLINE int look_for_answer(struct wait *wait)
{
	u64 *answer = bpf_map_lookup_elem(&map_answers, &wait->place);
	u64 said;

	if (!answer)
		return 1;
	said = *(volatile u64 *)answer;
	if (said > 2 * wait->ticket) {
		wait->answered = 1;
		return 1;
	}
	if (said == 2 * wait->ticket && !wait->taken_up) {
		wait->taken_up = 1;
		wait->until_ns += HOLD_FACTOR * hold_ns;
	}
	return bpf_ktime_get_ns() >= wait->until_ns;
}

/* Callback of bpf_loop. Returns 1 to stop. */
static long await_answer(u32 index, struct wait *wait)
{
	for (u32 look = 0; look < HOLD_LOOKS; look++)
		if (look_for_answer(wait))
			return 1;
	return 0;
}

/*
 * _dl_debug_state. The cookie is the distance from the probed instruction to r_state, 0 where it is
 * unknown: then every call is taken for the one that matters.
 */
SEC("uprobe/maps_changed")
int maps_changed(struct pt_regs *regs)
{
	u64 distance = bpf_get_attach_cookie(regs);
	u32 zero = 0, state = RT_CONSISTENT;
	u64 *tickets = bpf_map_lookup_elem(&map_tickets, &zero);
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
	wait.ticket = __sync_fetch_and_add(tickets, 1) + 1;
	wait.place = wait.ticket & (ML_MAP_ANSWERS - 1);
	wait.until_ns = bpf_ktime_get_ns() + hold_ns;
	if (ask(space->pid, wait.ticket))
		bpf_loop(HOLD_TURNS, await_answer, &wait, 0);
	if (!wait.answered)
		count(ML_DEFECT_MAPPINGS_LATE);
	return 0;
}

#endif
