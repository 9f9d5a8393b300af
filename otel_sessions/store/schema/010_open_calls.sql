-- LLM spans of other instrumentations, and LLM spans without a session. Each counts as soon as it arrives. When its trace
-- shows that another span describes the same exchange, or in which session it is, settling (Store.settle) takes it out of
-- llm_calls or moves it, corrects the rollups, and notes here what became of it: the row with the highest version holds.
CREATE TABLE IF NOT EXISTS open_calls /*on_cluster*/
(
    session_id String CODEC(ZSTD(1)),
    session_source LowCardinality(String) CODEC(ZSTD(1)),
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
    usage_details Map(LowCardinality(String), UInt64) CODEC(ZSTD(1)),
    cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cost_status LowCardinality(String) CODEC(ZSTD(1)),
    cost_source LowCardinality(String) CODEC(ZSTD(1)),
    is_log Bool CODEC(ZSTD(1)),
    arrived_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(ZSTD(1)),
    reason LowCardinality(String) CODEC(ZSTD(1)),
    superseded_by String CODEC(ZSTD(1)),
    version UInt64 CODEC(ZSTD(1)),
    INDEX idx_arrived_at arrived_at TYPE minmax GRANULARITY 1
)
ENGINE = /*replicated*/ReplacingMergeTree(version)
ORDER BY (trace_id, span_id)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS open_calls_mv /*on_cluster*/ TO open_calls AS
SELECT
    session_id,
    session_source,
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
    usage_details,
    cost_usd,
    cost_status,
    cost_source,
    is_log
FROM typed_spans
WHERE is_open;

-- What is being settled, written down first, so that what a crash leaves is finished by the next run. Of two that settle
-- at once, the first to write under the number of a round wins.
CREATE TABLE IF NOT EXISTS settling /*on_cluster*/
(
    round UInt64,
    trace_id String,
    span_id String,
    old_session_id String,
    old_path String,
    was_counted Bool,
    session_id String,
    session_source String,
    path String,
    reason String,
    superseded_by String
)
ENGINE = /*replicated*/MergeTree
ORDER BY (round, trace_id, span_id)
SETTINGS non_replicated_deduplication_window = 10000;

-- One row per finished round.
CREATE TABLE IF NOT EXISTS settlements /*on_cluster*/
(
    round UInt64,
    settled_at DateTime64(3, 'UTC')
)
ENGINE = /*replicated*/ReplacingMergeTree
ORDER BY round;
