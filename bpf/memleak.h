/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the probes and user space: every record in the ring, every map value that
 * both sides touch. recorder/src/wire.rs repeats it in Rust; a test there reads this file.
 *
 * No padding anywhere; sizes are asserted below.
 */
#ifndef MEMLEAK_H
#define MEMLEAK_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

/* What happened. The numbers live only in the ring; the trace stores names. */
enum ml_op {
	ML_OP_MALLOC = 1,
	ML_OP_CALLOC = 2,
	ML_OP_POSIX_MEMALIGN = 3,
	ML_OP_ALIGNED_ALLOC = 4,
	ML_OP_MEMALIGN = 5,
	ML_OP_VALLOC = 6,
	ML_OP_PVALLOC = 7,
	ML_OP_FREE = 8,
	ML_OP_REALLOC_RELEASE = 9,
	ML_OP_REALLOC = 10,
	ML_OP_REALLOCARRAY = 11,
	ML_OP_REALLOC_FAILED = 12,
	ML_OP_MMAP = 13,
	ML_OP_MUNMAP = 14,
	ML_OP_MUNMAP_INNER = 15,
	ML_OP_MUNMAP_FAILED = 16,
	ML_OP_MREMAP_RELEASE = 17,
	ML_OP_MREMAP = 18,
	ML_OP_MREMAP_FAILED = 19,
	ML_OP_NEW = 20,
	ML_OP_NEW_ARRAY = 21,
	ML_OP_DELETE = 22,
	ML_OP_DELETE_ARRAY = 23,
	ML_OP_BRK = 24,
	ML_OP_BRK_SHRINK = 25,
	ML_OP_POOL_ALLOC = 26,
	ML_OP_POOL_FREE = 27,
	ML_OP_POOL_REALLOC_RELEASE = 28,
	ML_OP_POOL_REALLOC = 29,
	ML_OP_POOL_REALLOC_FAILED = 30,
};

/* Shapes of records in the ring. */
enum ml_record {
	ML_RECORD_POINT = 1, /* struct ml_point */
	ML_RECORD_RANGE = 2, /* struct ml_range */
	ML_RECORD_ALLOC = 3, /* struct ml_alloc */
	ML_RECORD_STACK = 4, /* struct ml_stack */
	ML_RECORD_SAMPLE = 5, /* struct ml_sample, in tests only */
	ML_RECORD_EXEC = 6,  /* struct ml_point: `space` is the new one, `addr` the parent's pid, no op */
	ML_RECORD_FORK = 7,  /* struct ml_point of the child: `tid` the parent's pid, `addr` its space */
	ML_RECORD_EXIT = 8,  /* struct ml_point: `addr` as waitpid() tells it, `op` 1 for an OOM kill */
};

/* Why a walk ended. */
enum ml_stack_end {
	ML_END_COMPLETE = 0,
	ML_END_NO_MAPPING = 1,
	ML_END_NO_UNWIND_INFO = 2,
	ML_END_UNREADABLE = 3,
	ML_END_TOO_DEEP = 4,
};

/* Per-CPU counters. The first ones count lost events, the others events kept with a defect. */
enum ml_counter {
	ML_LOST_ALLOC_RING_FULL = 0,
	ML_LOST_RELEASE_RING_FULL = 1,
	ML_LOST_NO_TASK_STORAGE = 2,
	ML_DEFECT_STACK_UNPUBLISHED = 3,
	ML_DEFECT_STACK_UNREAD = 4,
	ML_DEFECT_SET_FULL = 5,
	ML_DEFECT_MAPPINGS_LATE = 6, /* counts openings of libraries */
	ML_LOST_NO_SPACE = 7, /* counts processes */
	ML_COUNTERS = 8,
};

/* Head of every event. 32 bytes. */
struct ml_point {
	u16 record; /* enum ml_record */
	u16 op;	    /* enum ml_op */
	u32 space;
	u32 pid;
	u32 tid;
	u64 ts; /* CLOCK_MONOTONIC, ns */
	u64 addr;
};

/* A release of a range. 40 bytes. */
struct ml_range {
	struct ml_point head;
	u64 size;
};

/* An allocation. 48 bytes. */
struct ml_alloc {
	struct ml_point head;
	u64 size;
	u64 stack; /* hash of the stack, 0 = none */
};

#define ML_MAX_FRAMES 127

/* A stack, told before its first use; as long as it has frames. */
struct ml_stack {
	u16 record; /* ML_RECORD_STACK */
	u16 end;    /* enum ml_stack_end */
	u32 frame_count;
	u32 pid;
	u32 space;
	u64 hash;
	u64 stopped_at; /* the address that ended the walk, where it ended early */
	u64 frames[ML_MAX_FRAMES + 1]; /* frame ids, leaf first; one more: a mask bounds the index */
};
#define ML_STACK_HEAD 32

/* Bytes of stack in a sample. */
#define ML_SAMPLE_STACK 32768

/* What a walk started from; behind the stack that it came to. */
struct ml_sample {
	u16 record; /* ML_RECORD_SAMPLE */
	u16 unused;
	u32 stack_bytes; /* how many of `stack` could be read */
	u64 hash;	 /* of the stack that the walk came to */
	u64 rip;
	u64 rsp;
	u64 rbp;
	u8 stack[ML_SAMPLE_STACK]; /* from rsp upwards */
};
#define ML_SAMPLE_HEAD 40

/* Frame ids, as shared/src/stack.rs packs them. */
#define ML_FRAME_OFFSET_BITS 40
#define ML_FRAME_ANONYMOUS (1ULL << 62)
#define ML_FRAME_EXACT (1ULL << 61)

/* The module that holds an allocator, or the loader: what it maps is its own. */
#define ML_MAPPING_INNER 1
/* The module defines free() and hands the call on to another one's. */
#define ML_MAPPING_WRAPPER 2

/*
 * A probe's cookie: the operation's number, flags, which arguments say what (from 1; 0: none does), a
 * number of the function, from 1, and the bytes of a block where no argument says it.
 */
#define ML_COOKIE_CHECK_CALLER (1 << 16)  /* leave out calls from wrappers */
/* the probe fires in every process, and is for those without probes of their own */
#define ML_COOKIE_EVERYWHERE (1 << 17)
#define ML_COOKIE_SEVERAL (1 << 18)	  /* one release may be a call of several functions */
#define ML_COOKIE_FAILURE_FREES (1 << 19) /* a reallocation that fails frees the block */
#define ML_COOKIE_SIZE 20		  /* bytes asked for */
#define ML_COOKIE_TIMES 23		  /* how many of these */
#define ML_COOKIE_PTR 26		  /* the block */
#define ML_COOKIE_OUT 29		  /* where the new block's address is put */
#define ML_COOKIE_FUNCTION 32		  /* 16 bits */
#define ML_COOKIE_BYTES 48

/* An executable mapping. 40 bytes. */
struct ml_mapping {
	u64 start;
	u64 end;
	u64 file_offset; /* of the first byte */
	u32 file_id;	 /* 0: no file, then `generation` counts */
	u16 generation;
	u16 flags;
	u32 first_row; /* its file's unwind rows */
	u32 row_count;
};

#define ML_MAX_MAPPINGS 1024

/* Table of a process that has just executed another program: nothing is known of it. */
#define ML_EMPTY_TABLE 0
/* Processes that are recorded at once. Each has two tables: the idle one is filled, then it is used. */
#define ML_MAX_PROCESSES 64

/* The executable mappings of an address space, by address. */
struct ml_mapping_table {
	u32 count;
	u32 generation; /* changes with every new table: cached rows of older ones are void */
	struct ml_mapping rows[ML_MAX_MAPPINGS];
};

/* Processes that are known at once: those recorded, and children that share memory with them. */
#define ML_MAX_SPACES 1024

/* The process has probes of its own. */
#define ML_SPACE_OWN 1
/* The process shares the address space of process `pid` (vfork): what it does, that one does. */
#define ML_SPACE_ALIAS 2
/* It was just forked: it is held before its first instruction. */
#define ML_SPACE_FORKED 4
/* It has executed a program whose libraries are not mapped yet: it is held when they are. */
#define ML_SPACE_STARTING 8

/* A process that is recorded, by tgid. 24 bytes; `id` and `table` change together. */
struct ml_space {
	u32 id;
	u32 table; /* index of its current ml_mapping_table */
	u32 pid;   /* whose address space it is */
	u32 flags; /* ML_SPACE_… */
	u32 exec_tid; /* the thread that executed the program, as it was called before */
	u32 unused;
};

/* A heap block, as key of the set of recorded ones. 16 bytes. */
struct ml_block {
	u64 addr;
	u64 space;
};

/* What --estimate counts. */
#define ML_TALLIES 64
#define ML_TALLY_RELEASES 63

struct ml_tally {
	u64 count;
	u64 bytes;
};

/* Exponentials by which sampling by bytes computes probabilities; shared/src/selection.rs. */
#define ML_EXPONENTIALS 544

/* How to find the caller of a frame, from `pc` on. 8 bytes. */
struct ml_unwind_row {
	u32 pc;		/* offset in the file */
	u16 cfa_offset; /* in 8-byte words */
	u16 rule;	/* low 3 bits: enum ml_unwind_kind; others: saved rbp at cfa - 8n, 0 = kept */
};

enum ml_unwind_kind {
	ML_UNWIND_NONE = 0,	/* no information: follow the frame pointer */
	ML_UNWIND_SP = 1,	/* cfa = rsp + offset */
	ML_UNWIND_BP = 2,	/* cfa = rbp + offset */
	ML_UNWIND_BP_DEREF = 3, /* cfa = *(rbp - offset): realigned stacks */
	ML_UNWIND_END = 4,	/* the outermost frame */
	ML_UNWIND_SIGNAL = 5,	/* rsp points at the ucontext */
	ML_UNWIND_SP_FAR = 6,	/* as SP; bits 6-15 are the offset's bits 16-25, 3-5 where rbp is */
};

/* What user space tells the probes while they run. */
enum ml_recording {
	ML_CLOSED = 0, /* before and after */
	ML_OPEN = 1,
	ML_OPEN_FILTERED = 2, /* probes fire for every process: those not in `spaces` are none of ours */
	ML_PREPARING = 3, /* nothing is recorded yet, but processes are held where they must be */
};

/* Why a process is stopped. Each reason is answered for itself; it goes on when none is left. */
enum ml_stop_reason {
	ML_STOP_RING_FULL = 0, /* until the ring is drained */
	ML_STOP_HELD = 1,      /* until its probes are on: at fork, exec, and when it is loaded */
	ML_STOP_REASONS = 2,
};

/* Stops of a process for one reason. 16 bytes. */
struct ml_stop_count {
	u64 begun;
	u64 sent; /* never more than begun, and the same when all is told */
};

/* Stops of a process. 40 bytes. */
struct ml_stops {
	u64 last_ns; /* the last one for a full ring, CLOCK_MONOTONIC */
	struct ml_stop_count by_reason[ML_STOP_REASONS];
};

/*
 * User space is to look at a process. 16 bytes. With a ticket: a library was opened or closed, and
 * the thread waits for the answer. Without: it is held, or was forked.
 */
struct ml_map_change {
	u64 ticket; /* from 1 */
	u32 pid;
	u32 unused;
};

/* Places for answers: as many threads can wait at once without waiting for each other's. */
#define ML_MAP_ANSWERS 64

/* How a process ended. 12 bytes. */
struct ml_exit {
	u32 status; /* as waitpid() tells it */
	u32 ended;  /* whether it has */
	u32 out_of_memory; /* whether the OOM killer chose it */
};

#define ML_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
ML_SIZE(struct ml_point, 32);
ML_SIZE(struct ml_range, 40);
ML_SIZE(struct ml_alloc, 48);
ML_SIZE(struct ml_stack, ML_STACK_HEAD + 8 * (ML_MAX_FRAMES + 1));
ML_SIZE(struct ml_sample, ML_SAMPLE_HEAD + ML_SAMPLE_STACK);
ML_SIZE(struct ml_mapping, 40);
ML_SIZE(struct ml_mapping_table, 8 + 40 * ML_MAX_MAPPINGS);
ML_SIZE(struct ml_block, 16);
ML_SIZE(struct ml_tally, 16);
ML_SIZE(struct ml_unwind_row, 8);
ML_SIZE(struct ml_space, 24);
ML_SIZE(struct ml_stops, 40);
ML_SIZE(struct ml_map_change, 16);
ML_SIZE(struct ml_exit, 12);

#endif
