-- One row per session name, path and session (after merging): what each kind of step took in each session that has it.
-- A span counts at its own path (own_) and at every path above it. Latencies are kept one by one, at most 8,192 per row.
-- Read by the 100,000 rows: LZ4, and session_key to group by instead of the id's text (see docs/decisions/002).
CREATE TABLE IF NOT EXISTS path_rollup /*on_cluster*/
(
    session_name String CODEC(LZ4),
    path LowCardinality(String) CODEC(LZ4),
    session_id String CODEC(LZ4),
    session_key UInt64 MATERIALIZED sipHash64(session_id) CODEC(LZ4),
    started_at SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(LZ4),
    ended_at SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(LZ4),
    own_calls SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    own_cost_usd SimpleAggregateFunction(sum, Decimal(38, 12)) CODEC(LZ4),
    calls SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    errors SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    llm_ns SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    input_tokens SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    output_tokens SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    cost_usd SimpleAggregateFunction(sum, Decimal(38, 12)) CODEC(LZ4),
    own_costed_calls SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    costed_calls SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    unpriced_calls SimpleAggregateFunction(sum, UInt64) CODEC(LZ4),
    latencies SimpleAggregateFunction(groupArrayArray(8192), Array(Float32)) CODEC(LZ4)
)
ENGINE = /*replicated*/AggregatingMergeTree
ORDER BY (session_name, path, session_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS path_rollup_mv /*on_cluster*/ TO path_rollup AS
SELECT
    s.session_name AS session_name,
    arrayJoin(arrayMap(
        depth -> if(depth = 0, '/', arrayStringConcat(arraySlice(s.segments, 1, depth + 1), '/')),
        range(length(s.segments))
    )) AS path,
    s.session_id AS session_id,
    min(s.first_start) AS started_at,
    max(s.last_end) AS ended_at,
    sumIf(s.calls, s.at = path) AS own_calls,
    sumIf(s.cost, s.at = path) AS own_cost_usd,
    sumIf(s.costed, s.at = path) AS own_costed_calls,
    sum(s.calls) AS calls,
    sum(s.errors) AS errors,
    sum(s.ns) AS llm_ns,
    sum(s.input) AS input_tokens,
    sum(s.output) AS output_tokens,
    sum(s.cost) AS cost_usd,
    sum(s.costed) AS costed_calls,
    sum(s.unpriced) AS unpriced_calls,
    groupArrayArray(8192)(s.latency) AS latencies
FROM
(
    -- First by path, so that the path is taken apart once per step and not once per span.
    SELECT
        t.session_name AS session_name,
        t.path AS at,
        if(at = '/', [''], splitByChar('/', at)) AS segments,
        t.session_id AS session_id,
        min(t.started_at) AS first_start,
        max(t.ended_at) AS last_end,
        sum(t.counted_calls) AS calls,
        sum(t.counted_errors) AS errors,
        sum(t.counted_ns) AS ns,
        sum(t.counted_input_tokens) AS input,
        sum(t.counted_output_tokens) AS output,
        sum(t.counted_cost_usd) AS cost,
        sum(t.costed_calls) AS costed,
        sum(t.unpriced_calls) AS unpriced,
        groupArrayIf(8192)(toFloat32(t.duration_ns / 1e9), t.is_billable) AS latency
    FROM typed_spans AS t
    WHERE t.session_id != ''
    GROUP BY session_name, at, session_id
) AS s
GROUP BY session_name, path, session_id;
