-- One row per session name, path and session (after merging): what each kind of step took in each session that has it.
-- A span counts at its own path (own_) and at every path above it. Latencies are kept one by one, at most 8,192 per row.
-- costed_calls are two numbers, because every column costs time in inserts and reads: a call with a cost counts as 2^32,
-- one that is not billed as 1.
-- Read by the 100,000 rows, hence LZ4, and session_key instead of the id's text. Ordered by the time in the id before
-- the name (18.6 hours of a UUIDv7, nothing of any other id): so parts seldom overlap, and FINAL has little to merge.
-- What has no name lies apart, because every reader looks for it (see docs/decisions/002).
CREATE TABLE IF NOT EXISTS path_rollup /*on_cluster*/
(
    session_name String CODEC(LZ4),
    path LowCardinality(String) CODEC(LZ4),
    session_id String CODEC(LZ4),
    session_key UInt64 MATERIALIZED sipHash64(session_id) CODEC(LZ4),
    is_unnamed Bool MATERIALIZED session_name = '' CODEC(LZ4),
    id_time UInt32 MATERIALIZED if(length(session_id) = 36 AND substring(session_id, 15, 1) = '7', intDiv(reinterpretAsUInt32(reverse(unhex(substring(session_id, 1, 8)))), 1024), 0) CODEC(LZ4),
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
ORDER BY (is_unnamed, id_time, session_name, path, session_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS path_rollup_mv /*on_cluster*/ TO path_rollup AS
SELECT
    s.session_name AS session_name,
    -- '/a/b' gives '/', '/a', '/a/b'. Without a lambda, which takes longer to plan than all the rest.
    greatest('/', substringIndex(s.at, '/', arrayJoin(range(countSubstrings(s.at, '/') + (s.at != '/'))) + 1)) AS path,
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
        t.session_id AS session_id,
        min(t.started_at) AS first_start,
        max(t.ended_at) AS last_end,
        sum(t.counted_calls) AS calls,
        sum(t.counted_errors) AS errors,
        sum(t.counted_ns) AS ns,
        sum(t.counted_input_tokens) AS input,
        sum(t.counted_output_tokens) AS output,
        sum(t.counted_cost_usd) AS cost,
        sum(t.costed_calls * 4294967296 + t.unbilled_calls) AS costed,
        sum(t.unpriced_calls) AS unpriced,
        groupArrayIf(8192)(toFloat32(t.duration_ns / 1e9), t.is_billable) AS latency
    FROM typed_spans AS t
    WHERE t.session_id != ''
    GROUP BY session_name, at, session_id
) AS s
GROUP BY session_name, path, session_id;
