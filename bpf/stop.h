/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stops of recorded processes, and why: the ring is nearly full (--on-overflow pause), or the probes
 * of the process are not on yet (fork, exec, start).
 *
 * The probes only count, each reason apart; user space compares with what it has answered
 * (`continued`), so that no stop is forgotten whatever runs at the same time, and none undoes another.
 * recorder/src/stops.rs is the other side.
 */
#ifndef MEMLEAK_STOP_H
#define MEMLEAK_STOP_H

#include "maps.h"

#define BPF_RB_AVAIL_DATA 0
#define BPF_RB_RING_SIZE 1

/* Once stopped, all threads are within this time: a later one has been continued by someone. */
#define PAUSE_AGAIN_NS 1000000

/* Bytes that wait in the ring when the target is stopped; 0: it never is. */
const volatile u64 pause_at = 0;

/* Stops of a process by its tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct ml_stops);
} stops SEC(".maps");

/* What user space has answered. The probes forget it with the process, and never look at it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct ml_stops);
} continued SEC(".maps");

/* The stops of this process; made on first use. */
INLINE struct ml_stops *current_stops(void)
{
	struct ml_stops none = {}, *known;
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	known = bpf_map_lookup_elem(&stops, &pid);
	if (known)
		return known;
	bpf_map_update_elem(&stops, &pid, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&stops, &pid);
}

/* Stops this process before its next instruction. */
INLINE void stop(struct ml_stop_count *count)
{
	__sync_fetch_and_add(&count->begun, 1);
	bpf_send_signal(SIGSTOP);
	__sync_fetch_and_add(&count->sent, 1);
}

/*
 * Call it behind every event. One thread stops them all; where half of the room behind the mark is used up
 * nonetheless, each stops for itself: the first may have been interrupted before it sent its signal, and a
 * continuation under way for an earlier stop takes a pending signal back.
 */
INLINE void pause_if_full(void)
{
	struct ml_stops *known;
	u64 waiting, now, last;

	if (!pause_at)
		return;
	waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	if (waiting < pause_at)
		return;
	known = current_stops();
	if (!known)
		return;
	now = bpf_ktime_get_ns();
	last = known->last_ns;
	if (waiting < (pause_at + bpf_ringbuf_query(&events, BPF_RB_RING_SIZE)) / 2) {
		if (last && now - last < PAUSE_AGAIN_NS)
			return;
		if (__sync_val_compare_and_swap(&known->last_ns, last, now) != last)
			return; /* another thread does it */
	}
	stop(&known->by_reason[ML_STOP_RING_FULL]);
}

#endif
