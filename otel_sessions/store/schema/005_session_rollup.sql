-- One row per session (after merging; read it with FINAL). Start and end cover everything in the session, the sums
-- its billable calls. Names: the latest one given. A call that is not billed (refused, never arrived, a moderation) is
-- not missing from the cost.
CREATE TABLE IF NOT EXISTS session_rollup /*on_cluster*/
(
    session_id String CODEC(ZSTD(1)),
    started_at SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    ended_at SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    named SimpleAggregateFunction(max, Tuple(DateTime64(9, 'UTC'), String)) CODEC(ZSTD(1)),
    user_ids SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
    services SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
    providers SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
    models SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
    spans SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    errors SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    llm_ns SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    input_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    cached_input_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    cache_write_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    output_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    reasoning_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    cost_usd SimpleAggregateFunction(sum, Decimal(38, 12)) CODEC(ZSTD(1)),
    costed_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    unpriced_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    no_usage_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    unbilled_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    latency_state AggregateFunction(quantiles(0.5, 0.95), Float32) CODEC(ZSTD(1)),
    INDEX idx_started_at started_at TYPE minmax GRANULARITY 1,
    INDEX idx_ended_at ended_at TYPE minmax GRANULARITY 1
)
ENGINE = /*replicated*/AggregatingMergeTree
ORDER BY session_id
SETTINGS index_granularity = 256, min_compress_block_size = 4096, merge_selector_base = 10, non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS session_rollup_mv /*on_cluster*/ TO session_rollup AS
SELECT
    s.session_id AS session_id,
    min(s.started_at) AS started_at,
    max(s.ended_at) AS ended_at,
    max(if(s.session_name = '', (toDateTime64(0, 9, 'UTC'), ''), (s.started_at, s.session_name))) AS named,
    arrayFilter(value -> value != '', groupUniqArray(s.user_id)) AS user_ids,
    arrayFilter(value -> value != '', groupUniqArray(s.service)) AS services,
    arrayFilter(value -> value != '', groupUniqArrayIf(s.provider, s.is_billable)) AS providers,
    arrayFilter(value -> value != '', groupUniqArrayIf(s.model, s.is_billable)) AS models,
    countIf(NOT s.is_correction) AS spans,
    sum(s.counted_calls) AS calls,
    sum(s.counted_errors) AS errors,
    sum(s.counted_ns) AS llm_ns,
    sum(s.counted_input_tokens) AS input_tokens,
    sum(s.counted_cached_tokens) AS cached_input_tokens,
    sum(s.counted_cache_write_tokens) AS cache_write_tokens,
    sum(s.counted_output_tokens) AS output_tokens,
    sum(s.counted_reasoning_tokens) AS reasoning_tokens,
    sum(s.counted_cost_usd) AS cost_usd,
    sum(s.costed_calls) AS costed_calls,
    sum(s.unpriced_calls) AS unpriced_calls,
    sum(s.no_usage_calls) AS no_usage_calls,
    sum(s.unbilled_calls) AS unbilled_calls,
    quantilesStateIf(0.5, 0.95)(toFloat32(s.duration_ns / 1e9), s.is_billable) AS latency_state
FROM typed_spans AS s
WHERE s.session_id != ''
GROUP BY s.session_id;
