-- One row per session name, path and session (after merging): what each kind of step took in each session that has it.
-- A span counts at its own path (own_) and at every path above it. Latencies are kept one by one, at most 8,192 per row.
CREATE TABLE IF NOT EXISTS path_rollup /*on_cluster*/
(
    session_name String CODEC(ZSTD(1)),
    path String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    started_at SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    ended_at SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    own_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    own_cost_usd SimpleAggregateFunction(sum, Decimal(38, 12)) CODEC(ZSTD(1)),
    calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    errors SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    llm_ns SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    input_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    output_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    cost_usd SimpleAggregateFunction(sum, Decimal(38, 12)) CODEC(ZSTD(1)),
    costed_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    unpriced_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    latencies SimpleAggregateFunction(groupArrayArray(8192), Array(Float32)) CODEC(ZSTD(1))
)
ENGINE = /*replicated*/AggregatingMergeTree
ORDER BY (session_name, path, session_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS path_rollup_mv /*on_cluster*/ TO path_rollup AS
SELECT
    s.session_name AS session_name,
    arrayJoin(if(
        s.path = '/',
        ['/'],
        arrayMap(depth -> if(depth = 0, '/', arrayStringConcat(arraySlice(splitByChar('/', s.path), 1, depth + 1), '/')), range(length(splitByChar('/', s.path))))
    )) AS path,
    s.session_id AS session_id,
    min(s.started_at) AS started_at,
    max(addNanoseconds(s.started_at, s.duration_ns)) AS ended_at,
    countIf(s.is_billable AND s.path = path) AS own_calls,
    sumIf(ifNull(s.cost_usd, 0), s.is_billable AND s.path = path) AS own_cost_usd,
    countIf(s.is_billable) AS calls,
    countIf(s.is_billable AND s.status = 'error') AS errors,
    sumIf(s.duration_ns, s.is_billable) AS llm_ns,
    sumIf(ifNull(s.input_tokens, 0), s.is_billable) AS input_tokens,
    sumIf(ifNull(s.output_tokens, 0), s.is_billable) AS output_tokens,
    sumIf(ifNull(s.cost_usd, 0), s.is_billable) AS cost_usd,
    countIf(s.is_billable AND s.cost_usd IS NOT NULL) AS costed_calls,
    countIf(s.is_billable AND s.cost_status = 'unpriced') AS unpriced_calls,
    groupArrayIf(8192)(toFloat32(s.duration_ns / 1e9), s.is_billable) AS latencies
FROM typed_spans AS s
WHERE s.session_id != ''
GROUP BY session_name, path, session_id;
