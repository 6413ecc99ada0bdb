/* A pool that carves pieces out of malloc'ed chunks; a table of fixed objects; an allocator of another name.
 *
 * The chunks are the heap's, the pieces are the pool's: nothing of both is summed. The functions below
 * are static and not inlined: only the symbol table has them. */
#include "truth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 65536, OBJECT = 48 };

enum { CHUNKS, BEFORE, PIECES, COUNTED, GROWN, THROUGH, OBJECTS, MINE, MINE_GROWN, SITES };

static struct site sites[SITES] = {
	[CHUNKS] = { "new_chunk", "heap", 0, 0 },
	[BEFORE] = { "before_pool_grow", "pool", 0, 0 },
	[PIECES] = { "pieces", "pool", 0, 0 },
	[COUNTED] = { "counted_pieces", "pool", 0, 0 },
	[GROWN] = { "grown_piece", "pool", 0, 0 },
	[THROUGH] = { "through_pointer", "pool", 0, 0 },
	[OBJECTS] = { "objects", "pool", 0, 0 },
	[MINE] = { "mine", "heap", 0, 0 },
	[MINE_GROWN] = { "mine_grown", "heap", 0, 0 },
};

struct pool {
	char *chunk;
	size_t used;
};

static struct pool the_pool;

SITE static void new_chunk(struct pool *pool)
{
	pool->chunk = malloc(CHUNK);
	if (pool->chunk == NULL)
		abort();
	pool->used = 0;
	truth_allocated(&sites[CHUNKS], CHUNK);
}

SITE static void *pool_alloc(struct pool *pool, size_t size)
{
	if (size == 0 || size > CHUNK)
		return NULL;
	if (pool->chunk == NULL || pool->used + size > CHUNK)
		new_chunk(pool);

	void *piece = pool->chunk + pool->used;

	pool->used += (size + 15) & ~(size_t)15;
	return piece;
}

/* Calls pool_alloc: one piece, not two. */
SITE static void *pool_calloc(struct pool *pool, size_t count, size_t size)
{
	void *piece = pool_alloc(pool, count * size);

	if (piece != NULL)
		memset(piece, 0, count * size);
	return piece;
}

SITE static void *pool_grow(struct pool *pool, void *old, size_t old_size, size_t size)
{
	void *piece = pool_alloc(pool, size);

	if (piece != NULL && old != NULL)
		memcpy(piece, old, old_size);
	return piece;
}

SITE static int pool_get(struct pool *pool, size_t size, void **piece)
{
	*piece = pool_alloc(pool, size);
	return *piece == NULL ? ENOMEM : 0;
}

SITE static void pool_free(struct pool *pool, void *piece)
{
	(void)pool;
	if (piece != NULL)
		*(volatile char *)piece = 0;
}

static char table[64][OBJECT];
static int table_used;

SITE static void *object_get(void)
{
	return table_used < 64 ? table[table_used++] : NULL;
}

SITE static void object_put(void *object)
{
	*(volatile char *)object = 0;
}

/* An allocator under its own names. */
SITE static void *my_malloc(size_t size)
{
	static char memory[32768];
	static size_t used;

	if (used + size > sizeof(memory))
		return NULL;
	used += (size + 15) & ~(size_t)15;
	return memory + used - ((size + 15) & ~(size_t)15);
}

SITE static void *my_realloc(void *old, size_t size)
{
	void *block = my_malloc(size);

	if (block != NULL && old != NULL)
		memcpy(block, old, 16);
	return block;
}

SITE static void my_free(void *block)
{
	if (block != NULL)
		*(volatile char *)block = 0;
}

SITE static void pieces(void)
{
	for (int i = 0; i < 300; i++) {
		void *piece = pool_alloc(&the_pool, 1000);

		truth_allocated(&sites[PIECES], 1000);
		if (i % 3 == 0) {
			pool_free(&the_pool, piece);
			truth_freed(&sites[PIECES], 1000);
		}
	}
	if (pool_alloc(&the_pool, 2 * CHUNK) != NULL)
		abort();
	pool_free(&the_pool, NULL);
}

SITE static void counted_pieces(void)
{
	pool_calloc(&the_pool, 25, 40);
	truth_allocated(&sites[COUNTED], 1000);
}

SITE static void *before_pool_grow(void)
{
	truth_allocated(&sites[BEFORE], 100);
	return pool_alloc(&the_pool, 100);
}

SITE static void grown_piece(void)
{
	void *piece = before_pool_grow();

	if (pool_grow(&the_pool, piece, 100, 2 * CHUNK) != NULL) /* fails: the old piece stays */
		abort();
	if (pool_grow(&the_pool, piece, 100, 3000) == NULL)
		abort();
	truth_freed(&sites[BEFORE], 100);
	truth_allocated(&sites[GROWN], 3000);
}

SITE static void through_pointer(void)
{
	void *piece;

	if (pool_get(&the_pool, 512, &piece) != 0 || pool_get(&the_pool, 2 * CHUNK, &piece) == 0)
		abort();
	truth_allocated(&sites[THROUGH], 512);
}

SITE static void objects(void)
{
	for (int i = 0; i < 20; i++) {
		void *object = object_get();

		truth_allocated(&sites[OBJECTS], OBJECT);
		if (i % 2 == 0) {
			object_put(object);
			truth_freed(&sites[OBJECTS], OBJECT);
		}
	}
}

SITE static void *mine(void)
{
	for (int i = 0; i < 5; i++) {
		void *block = my_malloc(500);

		truth_allocated(&sites[MINE], 500);
		if (i == 0) {
			my_free(block);
			truth_freed(&sites[MINE], 500);
		}
	}
	truth_allocated(&sites[MINE], 300);
	return my_malloc(300);
}

SITE static void mine_grown(void *block)
{
	my_realloc(block, 700);
	truth_freed(&sites[MINE], 300);
	truth_allocated(&sites[MINE_GROWN], 700);
}

int main(void)
{
	truth_begin();
	pieces();
	counted_pieces();
	grown_piece();
	through_pointer();
	objects();
	mine_grown(mine());
	truth_end("pool", sites, SITES);
	return 0;
}
