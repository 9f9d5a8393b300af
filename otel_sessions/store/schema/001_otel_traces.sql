-- Raw spans. The stock columns have the names and types of the OpenTelemetry Collector's ClickHouse exporter, so that a
-- Collector with `create_schema: false` and every tool that knows that table work with this one. Ordered for session
-- look-ups; the window lets a batch that arrives twice under one token count once; what is merged less eagerly (merge_selector_base,
-- 5 by default), and is a single file up to 128 MiB, costs less, and is read as fast (docs/decisions/001).
-- SessionId and SessionPath follow base/paths.py: the limits are 256 characters for an id, 128 for a segment, 32
-- segments, 1,024 for a path.
CREATE TABLE IF NOT EXISTS otel_traces /*on_cluster*/
(
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(T64, ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested
    (
        Timestamp DateTime64(9),
        Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested
    (
        TraceId String,
        SpanId String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    ResourceAttributeItems Array(String) ALIAS arrayMap(kv -> concat(kv.1, '=', kv.2), CAST(ResourceAttributes, 'Array(Tuple(String, String))')),
    SpanAttributeItems Array(String) ALIAS arrayMap(kv -> concat(kv.1, '=', kv.2), CAST(SpanAttributes, 'Array(Tuple(String, String))')),

    SessionId String MATERIALIZED substringUTF8(
        replaceRegexpAll(
            if(
                SpanAttributes['session.id'] != '' AND NOT startsWith(SpanAttributes['session.id'], '[Scrubbed due to '),
                SpanAttributes['session.id'],
                -- The first of these that is there; attribute_names has the same, and a test compares them. Logfire scrubs
                -- what has `session` in its name, unless it is told not to.
                trim(BOTH '"' FROM arraySort(arrayFilter(found -> found.1 > 0 AND found.2 != '' AND NOT startsWith(found.2, '[Scrubbed due to '), arrayMap(
                    (name, value) -> (transform(name, [
                        'session.id', 'langfuse.session.id', 'langfuse.trace.metadata.langfuse_session_id',
                        'langfuse.observation.metadata.langfuse_session_id',
                        'traceloop.association.properties.session_id', 'lmnr.association.properties.session_id',
                        'ai.telemetry.metadata.sessionId', 'ai.telemetry.metadata.session_id',
                        'langsmith.metadata.session_id', 'mlflow.trace.session', 'gen_ai.session.id',
                        'gen_ai.agent.session_id', 'coding_agent.session.id', 'gcp.vertex.agent.session_id',
                        'langwatch.thread.id', 'gen_ai.conversation.id', 'traceloop.association.properties.thread_id',
                        'traceloop.association.properties.conversation_id', 'ai.telemetry.metadata.threadId',
                        'langsmith.metadata.thread_id', 'langsmith.metadata.conversation_id', 'wandb.thread_id',
                        'thread_id'
                    ], range(1, 24), 0), value),
                    mapKeys(SpanAttributes),
                    mapValues(SpanAttributes)
                )))[1].2)
            ),
            '^[\\x09-\\x0d\\x1c-\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}]+|[\\x09-\\x0d\\x1c-\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}]+$',
            ''
        ),
        1,
        256
    ) CODEC(ZSTD(1)),
    SessionPath String MATERIALIZED if(
        SessionId = '',
        '',
        concat('/', trim(TRAILING '/' FROM substringUTF8(
            arrayStringConcat(
                arraySlice(
                    -- Cutting first: one pattern that counts to 128 in each segment takes ten times as long.
                    extractAll(
                        replaceRegexpAll(replaceAll(SpanAttributes['session.path'], '%2f', '%2F'), '([^/]{128})[^/]+', '\\1'),
                        '[^/]+'
                    ),
                    1,
                    32
                ),
                '/'
            ),
            1,
            1023
        )))
    ) CODEC(ZSTD(1)),

    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = /*replicated*/MergeTree
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (SessionId, Timestamp)
SETTINGS index_granularity = 1024, min_compress_block_size = 16384, ttl_only_drop_parts = 1, min_bytes_for_wide_part = 134217728, merge_selector_base = 20, non_replicated_deduplication_window = 10000;
