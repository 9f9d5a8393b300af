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
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_rollup_mv /*on_cluster*/ TO model_rollup AS
SELECT
    toStartOfHour(s.started_at) AS hour,
    s.provider AS provider,
    if(s.response_model != '', s.response_model, s.request_model) AS model,
    count() AS calls,
    countIf(s.status = 'error') AS errors,
    sum(s.duration_ns) AS llm_ns,
    sum(ifNull(s.input_tokens, 0)) AS input_tokens,
    sum(ifNull(s.cached_input_tokens, 0)) AS cached_input_tokens,
    sum(ifNull(s.cache_write_tokens, 0)) AS cache_write_tokens,
    sum(ifNull(s.output_tokens, 0)) AS output_tokens,
    sum(ifNull(s.reasoning_tokens, 0)) AS reasoning_tokens,
    sum(ifNull(s.cost_usd, 0)) AS cost_usd,
    countIf(s.cost_usd IS NOT NULL) AS costed_calls,
    countIf(s.cost_status = 'unpriced') AS unpriced_calls,
    sumIf(ifNull(s.input_tokens, 0), s.cost_status = 'unpriced') AS unpriced_input_tokens,
    sumIf(ifNull(s.output_tokens, 0), s.cost_status = 'unpriced') AS unpriced_output_tokens,
    min(if(s.cost_status = 'unpriced', s.started_at, toDateTime64('2261-01-01 00:00:00', 9, 'UTC'))) AS unpriced_first_seen,
    max(if(s.cost_status = 'unpriced', s.started_at, toDateTime64(0, 9, 'UTC'))) AS unpriced_last_seen,
    quantilesTDigestState(0.5, 0.95)(toFloat32(s.duration_ns / 1e9)) AS latency_state,
    quantilesTDigestIfState(0.5, 0.95)(toFloat32(ifNull(s.ttft_seconds, 0)), s.ttft_seconds IS NOT NULL) AS ttft_state
FROM typed_spans AS s
WHERE s.is_billable
GROUP BY hour, provider, model;
