-- Spans with usage that are not counted, because another span accounts for the same exchange, or several do.
CREATE TABLE IF NOT EXISTS suppressed_calls /*on_cluster*/
(
    session_id String CODEC(ZSTD(1)),
    path String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    started_at DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    scope LowCardinality(String) CODEC(ZSTD(1)),
    operation LowCardinality(String) CODEC(ZSTD(1)),
    response_model LowCardinality(String) CODEC(ZSTD(1)),
    reason LowCardinality(String) CODEC(ZSTD(1)),
    superseded_by String CODEC(ZSTD(1)),
    input_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    output_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cost_usd Nullable(Decimal(38, 12)) CODEC(ZSTD(1))
)
ENGINE = /*replicated*/MergeTree
PARTITION BY toYYYYMM(started_at)
ORDER BY (session_id, started_at)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS suppressed_calls_mv /*on_cluster*/ TO suppressed_calls AS
SELECT
    session_id,
    path,
    trace_id,
    span_id,
    started_at,
    scope,
    operation,
    model AS response_model,
    suppressed AS reason,
    superseded_by,
    input_tokens,
    output_tokens,
    cost_usd
FROM typed_spans
WHERE suppressed != '';
