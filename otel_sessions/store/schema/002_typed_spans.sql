-- Every span of a session and every LLM span, with typed fields. Stores nothing (engine Null): it is the one place
-- where the attribute names of the instrumentations are read, and feeds the tables below it within the same insert.
CREATE TABLE IF NOT EXISTS typed_spans /*on_cluster*/
(
    session_id String,
    session_name String,
    path String,
    user_id String,
    trace_id String,
    span_id String,
    parent_span_id String,
    started_at DateTime64(9, 'UTC'),
    duration_ns UInt64,
    service LowCardinality(String),
    scope LowCardinality(String),
    status LowCardinality(String),
    error_type LowCardinality(String),
    is_llm Bool,
    is_billable Bool,
    superseded_by String,
    operation LowCardinality(String),
    provider LowCardinality(String),
    request_model LowCardinality(String),
    response_model LowCardinality(String),
    response_id String,
    server_address LowCardinality(String),
    service_tier LowCardinality(String),
    http_status UInt16,
    streamed Bool,
    response_end LowCardinality(String),
    finish_reasons Array(LowCardinality(String)),
    ttft_seconds Nullable(Float64),
    input_tokens Nullable(UInt64),
    cached_input_tokens Nullable(UInt64),
    cache_write_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64),
    reasoning_tokens Nullable(UInt64),
    cost_usd Nullable(Decimal(38, 12)),
    cost_status LowCardinality(String),
    cost_source LowCardinality(String)
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS typed_spans_mv /*on_cluster*/ TO typed_spans AS
WITH
    -- A wrapper span, a tool or a step may repeat usage: without attributes nothing of it can be counted.
    if(is_llm, spans.SpanAttributes, CAST(map(), 'Map(LowCardinality(String), String)')) AS llm,
    arrayFirst(value -> value != '', [llm['gen_ai.response.finish_reasons'], llm['gen_ai.response.finish_reason'], llm['llm.finish_reason']]) AS finish,
    (input_tokens IS NOT NULL) OR (output_tokens IS NOT NULL) AS has_usage
SELECT
    spans.SessionId AS session_id,
    spans.SpanAttributes['session.name'] AS session_name,
    spans.SessionPath AS path,
    arrayFirst(value -> value != '', [spans.SpanAttributes['user.id'], spans.SpanAttributes['enduser.id']]) AS user_id,
    spans.TraceId AS trace_id,
    spans.SpanId AS span_id,
    spans.ParentSpanId AS parent_span_id,
    spans.Timestamp AS started_at,
    -- An end before the start (a clock step) wraps around in the Collector's unsigned column; 2^62 ns are 146 years.
    if(spans.Duration < 4611686018427387904, spans.Duration, 0) AS duration_ns,
    spans.ServiceName AS service,
    spans.ScopeName AS scope,
    if(spans.StatusCode = 'Error' OR spans.SpanAttributes['error.type'] != '', 'error', 'ok') AS status,
    spans.SpanAttributes['error.type'] AS error_type,

    arrayFirst(
        value -> value != '',
        [
            spans.SpanAttributes['gen_ai.operation.name'],
            transform(spans.SpanAttributes['openinference.span.kind'], ['LLM', 'EMBEDDING', ''], ['chat', 'embeddings', ''], 'other'),
            transform(spans.SpanAttributes['llm.request.type'], ['chat', 'completion', 'embedding', ''], ['chat', 'text_completion', 'embeddings', ''], 'other')
        ]
    ) AS operation,
    operation IN ('chat', 'text_completion', 'generate_content', 'embeddings') AND spans.SpanAttributes['otel_sessions.step'] != 'true' AS is_llm,
    is_llm AND spans.SpanAttributes['otel_sessions.billable'] != 'false' AS is_billable,
    spans.SpanAttributes['otel_sessions.superseded_by'] AS superseded_by,

    arrayFirst(value -> value != '', [llm['gen_ai.provider.name'], lower(llm['gen_ai.system']), lower(llm['llm.provider']), lower(llm['llm.system'])]) AS provider,
    arrayFirst(value -> value != '', [llm['gen_ai.request.model'], llm['llm.request.model_name'], llm['llm.model_name'], llm['embedding.model_name']]) AS request_model,
    arrayFirst(value -> value != '', [llm['gen_ai.response.model'], llm['llm.response.model_name']]) AS response_model,
    llm['gen_ai.response.id'] AS response_id,
    llm['server.address'] AS server_address,
    arrayFirst(value -> value != '', [llm['gen_ai.response.service_tier'], llm['gen_ai.request.service_tier']]) AS service_tier,
    toUInt16OrZero(llm['http.response.status_code']) AS http_status,
    arrayExists(value -> lower(value) = 'true', [llm['gen_ai.request.stream'], llm['gen_ai.is_streaming'], llm['llm.is_streaming']]) AS streamed,
    llm['otel_sessions.response.end'] AS response_end,
    multiIf(finish = '', [], startsWith(finish, '['), JSONExtract(finish, 'Array(String)'), [finish]) AS finish_reasons,
    toFloat64OrNull(llm['gen_ai.response.time_to_first_chunk']) AS ttft_seconds,

    toUInt64OrNull(arrayFirst(value -> value != '', [llm['gen_ai.usage.input_tokens'], llm['gen_ai.usage.prompt_tokens'], llm['llm.usage.prompt_tokens'], llm['llm.token_count.prompt']])) AS input_tokens,
    toUInt64OrNull(arrayFirst(value -> value != '', [llm['gen_ai.usage.cache_read.input_tokens'], llm['gen_ai.usage.cache_read_input_tokens'], llm['gen_ai.usage.details.cache_read_tokens'], llm['llm.token_count.prompt_details.cache_read']])) AS cached_input_tokens,
    toUInt64OrNull(arrayFirst(value -> value != '', [llm['gen_ai.usage.cache_creation.input_tokens'], llm['gen_ai.usage.cache_write.input_tokens'], llm['gen_ai.usage.cache_creation_input_tokens'], llm['gen_ai.usage.details.cache_write_tokens'], llm['llm.token_count.prompt_details.cache_write']])) AS cache_write_tokens,
    toUInt64OrNull(arrayFirst(value -> value != '', [llm['gen_ai.usage.output_tokens'], llm['gen_ai.usage.completion_tokens'], llm['llm.usage.completion_tokens'], llm['llm.token_count.completion']])) AS output_tokens,
    toUInt64OrNull(arrayFirst(value -> value != '', [llm['gen_ai.usage.reasoning.output_tokens'], llm['gen_ai.usage.reasoning_tokens'], llm['gen_ai.usage.details.reasoning_tokens'], llm['llm.usage.reasoning_tokens'], llm['llm.token_count.completion_details.reasoning']])) AS reasoning_tokens,

    toDecimal128OrNull(arrayFirst(value -> value != '', [llm['gen_ai.usage.cost'], llm['gen_ai.usage.total_cost'], llm['llm.cost.total']]), 12) AS cost_usd,
    multiIf(
        NOT is_llm, '',
        cost_usd IS NOT NULL, if(llm['otel_sessions.cost.status'] = 'priced', 'priced', 'provided'),
        has_usage, 'unpriced',
        'no_usage'
    ) AS cost_status,
    llm['otel_sessions.cost.source'] AS cost_source
FROM otel_traces AS spans
WHERE session_id != '' OR is_llm;
