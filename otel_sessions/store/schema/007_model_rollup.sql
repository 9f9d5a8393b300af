-- One row per hour, provider and model (after merging). Calls without a session count here too.
CREATE TABLE IF NOT EXISTS model_rollup /*on_cluster*/
(
    hour DateTime('UTC') CODEC(ZSTD(1)),
    provider LowCardinality(String) CODEC(ZSTD(1)),
    model LowCardinality(String) CODEC(ZSTD(1)),
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
    unbilled_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    unpriced_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    unpriced_input_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    unpriced_output_tokens SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    unpriced_first_seen SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    unpriced_last_seen SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    latency_state AggregateFunction(quantilesTDigest(0.5, 0.95), Float32) CODEC(ZSTD(1)),
    ttft_state AggregateFunction(quantilesTDigestIf(0.5, 0.95), Float32, UInt8) CODEC(ZSTD(1))
)
ENGINE = /*replicated*/AggregatingMergeTree
ORDER BY (hour, provider, model)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_rollup_mv /*on_cluster*/ TO model_rollup AS
SELECT
    toStartOfHour(s.started_at) AS hour,
    s.provider AS provider,
    s.model AS model,
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
    sum(s.unbilled_calls) AS unbilled_calls,
    sum(s.unpriced_calls) AS unpriced_calls,
    sum(s.unpriced_input_tokens) AS unpriced_input_tokens,
    sum(s.unpriced_output_tokens) AS unpriced_output_tokens,
    min(if(s.unpriced_calls > 0, s.started_at, toDateTime64('2261-01-01 00:00:00', 9, 'UTC'))) AS unpriced_first_seen,
    maxIf(s.started_at, s.unpriced_calls > 0) AS unpriced_last_seen,
    quantilesTDigestStateIf(0.5, 0.95)(toFloat32(s.duration_ns / 1e9), s.is_billable AND NOT s.is_correction) AS latency_state,
    quantilesTDigestIfState(0.5, 0.95)(toFloat32(ifNull(s.ttft_seconds, 0)), s.ttft_seconds IS NOT NULL) AS ttft_state
FROM typed_spans AS s
WHERE s.is_billable OR s.is_correction
GROUP BY hour, provider, model;
