-- One row per session (after merging; read it with FINAL). Start and end cover everything in the session, the sums
-- its billable calls. Names: the latest one given. A call that the provider refused (HTTP 4xx, 5xx) and that carries
-- no usage is not missing from the cost.
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
    refused_calls SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    latency_state AggregateFunction(quantiles(0.5, 0.95), Float32) CODEC(ZSTD(1)),
    INDEX idx_started_at started_at TYPE minmax GRANULARITY 1,
    INDEX idx_ended_at ended_at TYPE minmax GRANULARITY 1
)
ENGINE = /*replicated*/AggregatingMergeTree
ORDER BY session_id
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS session_rollup_mv /*on_cluster*/ TO session_rollup AS
SELECT
    s.session_id AS session_id,
    min(s.started_at) AS started_at,
    max(addNanoseconds(s.started_at, s.duration_ns)) AS ended_at,
    max(if(s.session_name = '', (toDateTime64(0, 9, 'UTC'), ''), (s.started_at, s.session_name))) AS named,
    groupUniqArrayIf(s.user_id, s.user_id != '') AS user_ids,
    groupUniqArrayIf(toString(s.service), s.service != '') AS services,
    groupUniqArrayIf(toString(s.provider), s.is_billable AND s.provider != '') AS providers,
    groupUniqArrayIf(toString(if(s.response_model != '', s.response_model, s.request_model)), s.is_billable AND (s.response_model != '' OR s.request_model != '')) AS models,
    count() AS spans,
    countIf(s.is_billable) AS calls,
    countIf(s.is_billable AND s.status = 'error') AS errors,
    sumIf(s.duration_ns, s.is_billable) AS llm_ns,
    sumIf(ifNull(s.input_tokens, 0), s.is_billable) AS input_tokens,
    sumIf(ifNull(s.cached_input_tokens, 0), s.is_billable) AS cached_input_tokens,
    sumIf(ifNull(s.cache_write_tokens, 0), s.is_billable) AS cache_write_tokens,
    sumIf(ifNull(s.output_tokens, 0), s.is_billable) AS output_tokens,
    sumIf(ifNull(s.reasoning_tokens, 0), s.is_billable) AS reasoning_tokens,
    sumIf(ifNull(s.cost_usd, 0), s.is_billable) AS cost_usd,
    countIf(s.is_billable AND s.cost_usd IS NOT NULL) AS costed_calls,
    countIf(s.is_billable AND s.cost_status = 'unpriced') AS unpriced_calls,
    countIf(s.is_billable AND s.cost_status = 'no_usage') AS no_usage_calls,
    countIf(s.is_billable AND s.cost_status = 'no_usage' AND s.http_status >= 400) AS refused_calls,
    quantilesStateIf(0.5, 0.95)(toFloat32(s.duration_ns / 1e9), s.is_billable) AS latency_state
FROM typed_spans AS s
WHERE s.session_id != ''
GROUP BY s.session_id;
