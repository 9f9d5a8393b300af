CREATE OR REPLACE VIEW model_usage /*on_cluster*/
(
    hour DateTime('UTC') COMMENT 'hour in which the calls began',
    provider LowCardinality(String) COMMENT 'provider called',
    model LowCardinality(String) COMMENT 'model that answered; the requested one where the response named none',
    calls UInt64 COMMENT 'LLM calls, those outside any session included',
    errors UInt64 COMMENT 'of these, failed',
    input_tokens UInt64 COMMENT 'includes cached reads and cache writes',
    cached_input_tokens UInt64 COMMENT 'part of input_tokens read from the provider''s cache',
    cache_write_tokens UInt64 COMMENT 'part of input_tokens written to the provider''s cache',
    output_tokens UInt64 COMMENT 'includes reasoning',
    reasoning_tokens UInt64 COMMENT 'part of output_tokens spent on reasoning',
    total_tokens UInt64 COMMENT 'input_tokens + output_tokens',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'sum over the calls with known cost, 0 if none is billed; NULL if none is known',
    unpriced_calls UInt64 COMMENT 'calls with known usage and no price',
    llm_seconds Float64 COMMENT 'sum of the durations of the calls',
    latency_p50_seconds Float64 COMMENT 'median duration of a call (t-digest)',
    latency_p95_seconds Float64 COMMENT '95th percentile of the duration of a call (t-digest)',
    ttft_p50_seconds Nullable(Float64) COMMENT 'median time to first chunk of the streamed calls; NULL if none was streamed',
    ttft_p95_seconds Nullable(Float64) COMMENT '95th percentile of the time to first chunk of the streamed calls'
)
COMMENT 'One row per hour, provider and model.'
AS
SELECT
    r.hour AS hour,
    r.provider AS provider,
    r.model AS model,
    r.calls AS calls,
    r.errors AS errors,
    r.input_tokens AS input_tokens,
    r.cached_input_tokens AS cached_input_tokens,
    r.cache_write_tokens AS cache_write_tokens,
    r.output_tokens AS output_tokens,
    r.reasoning_tokens AS reasoning_tokens,
    r.input_tokens + r.output_tokens AS total_tokens,
    if(r.costed_calls > 0 OR r.unbilled_calls = r.calls, r.cost_usd, NULL) AS cost_usd,
    r.unpriced_calls AS unpriced_calls,
    r.llm_ns / 1e9 AS llm_seconds,
    finalizeAggregation(r.latency_state)[1] AS latency_p50_seconds,
    finalizeAggregation(r.latency_state)[2] AS latency_p95_seconds,
    ifNotFinite(finalizeAggregation(r.ttft_state)[1], NULL) AS ttft_p50_seconds,
    ifNotFinite(finalizeAggregation(r.ttft_state)[2], NULL) AS ttft_p95_seconds
FROM model_rollup AS r FINAL;
