-- One row per billable LLM exchange, whichever instrumentation wrote its span.
CREATE TABLE IF NOT EXISTS llm_calls /*on_cluster*/
(
    session_id String CODEC(ZSTD(1)),
    session_name String CODEC(ZSTD(1)),
    path String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    parent_span_id String CODEC(ZSTD(1)),
    started_at DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    duration_ns UInt64 CODEC(T64, ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    scope LowCardinality(String) CODEC(ZSTD(1)),
    status LowCardinality(String) CODEC(ZSTD(1)),
    error_type LowCardinality(String) CODEC(ZSTD(1)),
    operation LowCardinality(String) CODEC(ZSTD(1)),
    provider LowCardinality(String) CODEC(ZSTD(1)),
    request_model LowCardinality(String) CODEC(ZSTD(1)),
    response_model LowCardinality(String) CODEC(ZSTD(1)),
    response_id String CODEC(ZSTD(1)),
    server_address LowCardinality(String) CODEC(ZSTD(1)),
    service_tier LowCardinality(String) CODEC(ZSTD(1)),
    http_status UInt16 CODEC(ZSTD(1)),
    streamed Bool CODEC(ZSTD(1)),
    response_end LowCardinality(String) CODEC(ZSTD(1)),
    finish_reasons Array(LowCardinality(String)) CODEC(ZSTD(1)),
    ttft_seconds Nullable(Float64) CODEC(ZSTD(1)),
    input_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cached_input_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cache_write_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    output_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    reasoning_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cost_status LowCardinality(String) CODEC(ZSTD(1)),
    cost_source LowCardinality(String) CODEC(ZSTD(1))
)
ENGINE = /*replicated*/MergeTree
PARTITION BY toYYYYMM(started_at)
ORDER BY (session_id, started_at)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS llm_calls_mv /*on_cluster*/ TO llm_calls AS
SELECT
    session_id,
    session_name,
    path,
    user_id,
    trace_id,
    span_id,
    parent_span_id,
    started_at,
    duration_ns,
    service,
    scope,
    status,
    error_type,
    operation,
    provider,
    request_model,
    response_model,
    response_id,
    server_address,
    service_tier,
    http_status,
    streamed,
    response_end,
    finish_reasons,
    ttft_seconds,
    input_tokens,
    cached_input_tokens,
    cache_write_tokens,
    output_tokens,
    reasoning_tokens,
    cost_usd,
    cost_status,
    cost_source
FROM typed_spans
WHERE is_billable;
