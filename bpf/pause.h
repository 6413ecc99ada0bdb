/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * --on-overflow pause: whoever fills the ring is stopped until it is drained.
 *
 * The probes only count; user space compares with what it has answered (`continued`), so that no
 * stop is forgotten whatever runs at the same time. recorder/src/pauses.rs is the other side.
 */
#ifndef MEMLEAK_PAUSE_H
#define MEMLEAK_PAUSE_H

#include "maps.h"

#define BPF_RB_AVAIL_DATA 0
#define SIGSTOP 19

/* Once stopped, all threads are within this time: a later one has been continued by someone. */
#define PAUSE_AGAIN_NS 1000000

static long (*bpf_send_signal)(u32 signal) = (void *)109;

/* Bytes that wait in the ring when the target is stopped; 0: it never is. */
const volatile u64 pause_at = 0;

/* Stops of a process by its tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct ml_stops);
} stops SEC(".maps");

/* What user space has answered. The probes never look at it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct ml_stops);
} continued SEC(".maps");

/* Call it behind every event. */
INLINE void pause_if_full(void)
{
	struct ml_stops none = {}, *known;
	u64 now, last;
	u32 pid;

	if (!pause_at || bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < pause_at)
		return;
	pid = bpf_get_current_pid_tgid() >> 32;
	known = bpf_map_lookup_elem(&stops, &pid);
	if (!known) {
		bpf_map_update_elem(&stops, &pid, &none, BPF_NOEXIST);
		known = bpf_map_lookup_elem(&stops, &pid);
		if (!known)
			return;
	}
	now = bpf_ktime_get_ns();
	last = known->last_ns;
	if (last && now - last < PAUSE_AGAIN_NS)
		return;
	if (__sync_val_compare_and_swap(&known->last_ns, last, now) != last)
		return; /* another thread does it */
	__sync_fetch_and_add(&known->begun, 1);
	bpf_send_signal(SIGSTOP);
	__sync_fetch_and_add(&known->sent, 1);
}

#endif
