-- What is outstanding at the end of a trace, per domain and stack: the reference for the replay.
-- DuckDB:  duckdb -c ".read schemas/outstanding.sql"  in the directory of trace.parquet.
--
-- The order is that of the file (file_row_number), never that of ts.
WITH process AS (
    SELECT pid, space, op,
           lead(op) OVER by_pid AS next_op, lead(space) OVER by_pid AS next_space
    FROM read_parquet('trace.parquet', file_row_number = true)
    WHERE op IN ('process', 'exit')
    WINDOW by_pid AS (PARTITION BY pid ORDER BY file_row_number)
),
-- exec: a process goes on in another address space, and the old one is gone with all that it held.
ended AS (
    SELECT space FROM process
    WHERE op = 'process' AND next_op = 'process' AND next_space <> space
),
event AS (
    SELECT
        file_row_number AS row, pid, tid, space, domain, op, addr, size, stack_id,
        -- A call that fails is told by the thread's next event of the domain that is an outcome.
        lead(op) OVER (PARTITION BY domain, pid, tid, family ORDER BY file_row_number) AS next_op
    FROM (
        SELECT
            *,
            op IN ('realloc_release', 'realloc', 'reallocarray', 'realloc_failed',
                   'pool_realloc_release', 'pool_realloc', 'pool_realloc_failed',
                   'munmap', 'munmap_inner', 'munmap_failed',
                   'mremap_release', 'mremap', 'mremap_failed') AS family
        FROM read_parquet('trace.parquet', file_row_number = true)
        WHERE domain IS NOT NULL AND space NOT IN (SELECT space FROM ended)
    )
),
-- Every event that changes what is allocated; a release that failed or has not returned does not.
change AS (
    SELECT
        *,
        op IN ('malloc', 'calloc', 'posix_memalign', 'aligned_alloc', 'memalign', 'valloc',
               'pvalloc', 'realloc', 'reallocarray', 'new', 'new_array', 'pool_alloc',
               'pool_realloc', 'mmap', 'mremap', 'brk',
               'kmalloc', 'kmem_cache_alloc', 'kmem_cache_alloc_bulk', 'page_alloc',
               'percpu_alloc') AS allocates
    FROM event
    WHERE NOT (op IN ('realloc_failed', 'pool_realloc_failed', 'munmap_failed', 'mremap_failed'))
      AND NOT (op = 'realloc_release'
               AND coalesce(next_op NOT IN ('realloc', 'reallocarray'), true))
      AND NOT (op = 'pool_realloc_release' AND coalesce(next_op <> 'pool_realloc', true))
      AND NOT (op = 'mremap_release' AND coalesce(next_op <> 'mremap', true))
      AND NOT (op IN ('munmap', 'munmap_inner') AND coalesce(next_op = 'munmap_failed', false))
      AND addr <> 0
),
-- Heap, pool, slab and percpu: the last change at an address decides, whichever function freed it
-- ('free', 'delete', 'delete_array', 'pool_free', 'kfree', 'kmem_cache_free', 'kmem_cache_free_bulk',
-- 'kfree_rcu', 'percpu_free'). (A forked child's free of an inherited block changes nothing: its
-- space has no such block, and the parent's is in another one.)
heap AS (
    SELECT domain, stack_id, size AS bytes, row
    FROM change
    WHERE domain IN ('heap', 'pool', 'slab', 'percpu')
    QUALIFY row_number() OVER (PARTITION BY domain, space, addr ORDER BY row DESC) = 1
        AND allocates
),
-- Mappings ('brk_shrink' ends pieces as munmap does) and pages ('page_free'): cut at every boundary;
-- the last change of a piece decides.
boundary AS (
    SELECT domain, space, addr AS edge FROM change WHERE domain IN ('mapping', 'page')
    UNION
    SELECT domain, space, addr + size FROM change WHERE domain IN ('mapping', 'page')
),
piece AS (
    SELECT domain, space, edge AS low,
           lead(edge) OVER (PARTITION BY domain, space ORDER BY edge) AS high
    FROM boundary
),
mapping AS (
    SELECT piece.domain, change.stack_id, high - low AS bytes, change.row
    FROM piece
    JOIN change ON change.domain = piece.domain AND change.space = piece.space
               AND change.addr <= low AND high <= change.addr + change.size
    QUALIFY row_number() OVER (PARTITION BY piece.domain, piece.space, low
                               ORDER BY change.row DESC) = 1
        AND allocates
)
SELECT domain, stack_id, sum(bytes)::BIGINT AS bytes, count(DISTINCT row) AS count
FROM (SELECT * FROM heap UNION ALL SELECT * FROM mapping)
GROUP BY domain, stack_id
ORDER BY domain, bytes DESC, stack_id;
