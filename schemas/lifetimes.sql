-- Every allocation from birth to death: the reference for `memleak-analyze export` and its views.
-- DuckDB:  duckdb -c ".read schemas/lifetimes.sql"  in the directory of trace.parquet.
--
-- The order is that of the file (file_row_number), never that of ts. What is outstanding has no
-- death. What an exec ended with its address space was freed by `process`, at the last event before.
-- A mapping that was cut up has a row per piece. Only the rows before `cut` count; replace
-- 9223372036854775807 by the first row after a moment to see the state there.
--
-- Programs in user space; for the kernel's domains see outstanding.sql, which knows what is outstanding
-- only. What both have in common stands in both: a file of plain SQL cannot read another.
WITH process AS (
    SELECT
        pid, space, op, lead(op) OVER by_pid AS next_op, lead(space) OVER by_pid AS next_space,
        lead(file_row_number) OVER by_pid AS next_row
    FROM read_parquet('trace.parquet', file_row_number = true)
    WHERE op IN ('process', 'exit') AND file_row_number < 9223372036854775807
    WINDOW by_pid AS (PARTITION BY pid ORDER BY file_row_number)
),
-- exec: a process goes on in another address space, and the old one is gone with all that it held.
ended AS (
    SELECT
        space, any_value(next_row) AS row,
        (SELECT max(ts) FROM read_parquet('trace.parquet', file_row_number = true)
         WHERE domain IS NOT NULL AND file_row_number < any_value(next_row)) AS ts
    FROM process
    WHERE op = 'process' AND next_op = 'process' AND next_space <> space
    GROUP BY space
),
event AS (
    SELECT
        file_row_number AS row, ts, pid, tid, space, domain, op, addr, size, stack_id,
        -- The thread's next event of the domain that is an outcome tells what became of a release.
        lead(op) OVER thread AS next_op, lead(ts) OVER thread AS next_ts,
        lead(file_row_number) OVER thread AS next_row
    FROM (
        SELECT
            *,
            op IN ('realloc_release', 'realloc', 'reallocarray', 'realloc_failed',
                   'pool_realloc_release', 'pool_realloc', 'pool_realloc_failed',
                   'munmap', 'munmap_inner', 'munmap_failed',
                   'mremap_release', 'mremap', 'mremap_failed') AS family
        FROM read_parquet('trace.parquet', file_row_number = true)
        WHERE domain IS NOT NULL AND file_row_number < 9223372036854775807
    )
    WINDOW thread AS (PARTITION BY domain, pid, tid, family ORDER BY file_row_number)
),
-- Every event that changes what is allocated, with when and by what; a release takes effect when
-- the reallocation has returned, though its place in the order is its own.
change AS (
    SELECT
        row, pid, tid, space, domain, op, addr, size, stack_id, ts,
        op IN ('malloc', 'calloc', 'posix_memalign', 'aligned_alloc', 'memalign', 'valloc',
               'pvalloc', 'realloc', 'reallocarray', 'new', 'new_array', 'pool_alloc',
               'pool_realloc', 'mmap', 'mremap', 'brk') AS allocates,
        CASE WHEN op IN ('realloc_release', 'pool_realloc_release', 'mremap_release') THEN next_ts ELSE ts END AS ended,
        CASE WHEN op IN ('realloc_release', 'pool_realloc_release', 'mremap_release') THEN next_op ELSE op END AS by_op,
        CASE WHEN op IN ('realloc_release', 'pool_realloc_release', 'mremap_release') THEN next_row ELSE row END AS by_row
    FROM event
    WHERE NOT (op IN ('realloc_failed', 'pool_realloc_failed', 'munmap_failed', 'mremap_failed'))
      AND NOT (op = 'realloc_release'
               AND coalesce(next_op NOT IN ('realloc', 'reallocarray'), true))
      AND NOT (op = 'pool_realloc_release' AND coalesce(next_op <> 'pool_realloc', true))
      AND NOT (op = 'mremap_release' AND coalesce(next_op <> 'mremap', true))
      AND NOT (op IN ('munmap', 'munmap_inner') AND coalesce(next_op = 'munmap_failed', false))
      AND addr <> 0
),
-- Heap and pool: the next change at an address ends a block.
heap AS (
    SELECT
        *, addr AS low, addr + size AS high,
        lead(ended) OVER place AS died, lead(by_op) OVER place AS freed_by,
        lead(by_row) OVER place AS died_row
    FROM change
    WHERE domain IN ('heap', 'pool')
    WINDOW place AS (PARTITION BY domain, space, addr ORDER BY row)
),
-- Mappings: cut at every boundary; the next change of a piece ends it.
boundary AS (
    SELECT space, addr AS edge FROM change WHERE domain = 'mapping'
    UNION
    SELECT space, addr + size FROM change WHERE domain = 'mapping'
),
piece AS (
    SELECT space, edge AS low, lead(edge) OVER (PARTITION BY space ORDER BY edge) AS high
    FROM boundary
),
cut_up AS (
    SELECT
        change.*, low, high,
        lead(ended) OVER place AS died, lead(by_op) OVER place AS freed_by,
        lead(by_row) OVER place AS died_row
    FROM piece
    JOIN change ON change.domain = 'mapping' AND change.space = piece.space
               AND change.addr <= low AND high <= change.addr + change.size
    WINDOW place AS (PARTITION BY piece.space, low ORDER BY change.row)
),
-- Neighbouring pieces of a mapping that ended together are one.
numbered AS (
    SELECT
        *,
        sum(fresh) OVER (PARTITION BY row, died_row ORDER BY low ROWS UNBOUNDED PRECEDING) AS run
    FROM (
        SELECT
            *,
            (coalesce(lag(high) OVER (PARTITION BY row, died_row ORDER BY low) <> low, true))::INT
                AS fresh
        FROM cut_up
        WHERE allocates
    )
),
mapping AS (
    SELECT
        any_value(domain) AS domain, any_value(op) AS op, any_value(pid) AS pid,
        any_value(tid) AS tid, any_value(space) AS space, any_value(stack_id) AS stack_id,
        min(low) AS address, (max(high) - min(low))::BIGINT AS size, any_value(ts) AS born,
        any_value(died) AS died, any_value(freed_by) AS freed_by, row AS born_row, died_row
    FROM numbered
    GROUP BY row, died_row, run
)
SELECT
    domain, op, pid, tid, life.space, stack_id, address, size, born,
    coalesce(died, ended.ts) AS died,
    CASE WHEN died_row IS NULL AND ended.row IS NOT NULL THEN 'process' ELSE freed_by END AS freed_by,
    born_row, coalesce(died_row, ended.row) AS died_row
FROM (
    SELECT
        domain, op, pid, tid, space, stack_id, addr AS address, size, ts AS born, died, freed_by,
        row AS born_row, died_row
    FROM heap
    WHERE allocates
    UNION ALL
    SELECT * FROM mapping WHERE size > 0
) AS life
LEFT JOIN ended ON ended.space = life.space
ORDER BY born_row, address;
