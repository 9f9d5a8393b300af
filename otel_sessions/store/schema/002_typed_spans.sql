-- What the spans say, read once: every span of a session and every LLM span, the attributes of an LLM span under names
-- of ours. Stores nothing (engine Null): it is the one place where the attribute names of the instrumentations are
-- read, and feeds what follows within the same insert.
CREATE TABLE IF NOT EXISTS read_spans /*on_cluster*/
(
    session_id String,
    session_name String,
    path String,
    user_id String,
    trace_id String,
    span_id String,
    parent_span_id String,
    started_at DateTime64(9, 'UTC'),
    ended_at DateTime64(9, 'UTC'),
    duration_ns UInt64,
    service LowCardinality(String),
    scope LowCardinality(String),
    status LowCardinality(String),
    error_type LowCardinality(String),
    superseded_by String,
    billable LowCardinality(String),
    operation_name LowCardinality(String),
    is_llm Bool,
    llm Map(String, String)
)
ENGINE = Null;

-- Nested, because an alias that is used forty times is analysed forty times, and analysis is what a small insert costs.
-- `known` lists the attributes of each field in the order in which they are believed; a map with a key twice answers
-- with the first.
CREATE MATERIALIZED VIEW IF NOT EXISTS read_spans_mv /*on_cluster*/ TO read_spans AS
WITH
    [
        ('gen_ai.usage.input_tokens', 'input'), ('gen_ai.usage.prompt_tokens', 'input'),
        ('llm.usage.prompt_tokens', 'input'), ('llm.token_count.prompt', 'input'),
        ('gen_ai.usage.output_tokens', 'output'), ('gen_ai.usage.completion_tokens', 'output'),
        ('llm.usage.completion_tokens', 'output'), ('llm.token_count.completion', 'output'),
        ('gen_ai.usage.cache_read.input_tokens', 'cached'), ('gen_ai.usage.cache_read_input_tokens', 'cached'),
        ('gen_ai.usage.details.cache_read_tokens', 'cached'), ('llm.token_count.prompt_details.cache_read', 'cached'),
        ('gen_ai.usage.cache_creation.input_tokens', 'cache_write'), ('gen_ai.usage.cache_write.input_tokens', 'cache_write'),
        ('gen_ai.usage.cache_creation_input_tokens', 'cache_write'), ('gen_ai.usage.details.cache_write_tokens', 'cache_write'),
        ('llm.token_count.prompt_details.cache_write', 'cache_write'),
        ('gen_ai.usage.reasoning.output_tokens', 'reasoning'), ('gen_ai.usage.reasoning_tokens', 'reasoning'),
        ('gen_ai.usage.details.reasoning_tokens', 'reasoning'), ('llm.usage.reasoning_tokens', 'reasoning'),
        ('llm.token_count.completion_details.reasoning', 'reasoning'),
        ('otel_sessions.usage.cache_creation_1h.input_tokens', 'cache_write_1h'), ('gen_ai.usage.cache_creation.ephemeral_1h_input_tokens', 'cache_write_1h'),
        ('gen_ai.usage.audio.input_tokens', 'audio_input'), ('llm.token_count.prompt_details.audio', 'audio_input'), ('gen_ai.usage.audio_input_tokens', 'audio_input'),
        ('gen_ai.usage.audio.cache_read.input_tokens', 'cached_audio_input'),
        ('gen_ai.usage.image.input_tokens', 'image_input'), ('gen_ai.usage.image.cache_read.input_tokens', 'cached_image_input'),
        ('gen_ai.usage.video.input_tokens', 'video_input'),
        ('gen_ai.usage.audio.output_tokens', 'audio_output'), ('llm.token_count.completion_details.audio', 'audio_output'), ('gen_ai.usage.audio_output_tokens', 'audio_output'),
        ('gen_ai.usage.image.output_tokens', 'image_output'), ('gen_ai.usage.video.output_tokens', 'video_output'),
        ('otel_sessions.usage.web_searches', 'web_search'),
        ('otel_sessions.response.speed', 'speed'), ('gen_ai.request.batch', 'batch'),
        ('gen_ai.usage.cost', 'cost'), ('gen_ai.usage.total_cost', 'cost'), ('llm.cost.total', 'cost'),
        ('otel_sessions.cost.status', 'cost_status'), ('otel_sessions.cost.source', 'cost_source'),
        ('gen_ai.provider.name', 'provider'), ('gen_ai.system', 'provider'), ('llm.provider', 'provider'), ('llm.system', 'provider'),
        ('gen_ai.request.model', 'request_model'), ('llm.request.model_name', 'request_model'),
        ('llm.model_name', 'request_model'), ('embedding.model_name', 'request_model'),
        ('gen_ai.response.model', 'response_model'), ('llm.response.model_name', 'response_model'),
        ('gen_ai.response.id', 'response_id'), ('server.address', 'server_address'),
        ('gen_ai.response.service_tier', 'service_tier'), ('gen_ai.request.service_tier', 'service_tier'),
        ('http.response.status_code', 'http_status'), ('otel_sessions.response.end', 'response_end'),
        ('gen_ai.request.stream', 'streamed'), ('gen_ai.is_streaming', 'streamed'), ('llm.is_streaming', 'streamed'),
        ('gen_ai.response.finish_reasons', 'finish'), ('gen_ai.response.finish_reason', 'finish'), ('llm.finish_reason', 'finish'),
        ('gen_ai.response.time_to_first_chunk', 'ttft_seconds')
    ] AS known
SELECT
    * EXCEPT (attributes, step),
    operation_name IN ('chat', 'text_completion', 'generate_content', 'embeddings') AND step != 'true' AS is_llm,
    -- A wrapper span, a tool or a step may repeat usage: without attributes nothing of it can be counted.
    mapFromArrays(
        arrayMap(found -> known[found.1].2, arraySort(arrayFilter(
            found -> found.1 > 0 AND found.2 != '' AND is_llm,
            arrayMap((name, value) -> (transform(name, known.1, arrayEnumerate(known), 0), value), mapKeys(attributes), mapValues(attributes))
        )) AS ranked),
        ranked.2
    ) AS llm
FROM
(
    SELECT
        spans.SpanAttributes AS attributes,
        spans.SessionId AS session_id,
        attributes['session.name'] AS session_name,
        spans.SessionPath AS path,
        if(attributes['user.id'] != '', attributes['user.id'], attributes['enduser.id']) AS user_id,
        spans.TraceId AS trace_id,
        spans.SpanId AS span_id,
        spans.ParentSpanId AS parent_span_id,
        spans.Timestamp AS started_at,
        -- An end before the start (a clock step) wraps around in the Collector's unsigned column; 2^62 ns are 146 years.
        if(spans.Duration < 4611686018427387904, spans.Duration, 0) AS duration_ns,
        addNanoseconds(spans.Timestamp, duration_ns) AS ended_at,
        spans.ServiceName AS service,
        spans.ScopeName AS scope,
        attributes['error.type'] AS error_type,
        if(spans.StatusCode = 'Error' OR error_type != '', 'error', 'ok') AS status,
        attributes['otel_sessions.step'] AS step,
        attributes['otel_sessions.billable'] AS billable,
        attributes['otel_sessions.superseded_by'] AS superseded_by,
        multiIf(
            attributes['gen_ai.operation.name'] != '', attributes['gen_ai.operation.name'],
            attributes['openinference.span.kind'] != '', transform(attributes['openinference.span.kind'], ['LLM', 'EMBEDDING'], ['chat', 'embeddings'], 'other'),
            transform(attributes['llm.request.type'], ['chat', 'completion', 'embedding'], ['chat', 'text_completion', 'embeddings'], '')
        ) AS operation_name
    FROM otel_traces AS spans
)
WHERE session_id != '' OR is_llm;

-- The same spans with typed fields and their price (which 008 looks up).
-- What counts (calls, tokens, cost) is 0 on everything but the billable call of an exchange, so that the tables below
-- only add up. A correction is no span: it takes the place and time of a call whose price changed later, and counts
-- nothing but the difference (below zero too: unsigned sums wrap around and come out right).
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
    ended_at DateTime64(9, 'UTC'),
    duration_ns UInt64,
    service LowCardinality(String),
    scope LowCardinality(String),
    status LowCardinality(String),
    error_type LowCardinality(String),
    is_llm Bool,
    is_billable Bool,
    superseded_by String,
    is_correction Bool,
    operation LowCardinality(String),
    provider LowCardinality(String),
    request_model LowCardinality(String),
    response_model LowCardinality(String),
    model LowCardinality(String),
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
    usage_details Map(LowCardinality(String), UInt64),
    cost_usd Nullable(Decimal(38, 12)),
    cost_status LowCardinality(String),
    cost_source LowCardinality(String),
    counted_calls UInt64,
    counted_errors UInt64,
    counted_ns UInt64,
    counted_input_tokens UInt64,
    counted_cached_tokens UInt64,
    counted_cache_write_tokens UInt64,
    counted_output_tokens UInt64,
    counted_reasoning_tokens UInt64,
    counted_cost_usd Decimal(38, 12),
    costed_calls UInt64,
    unpriced_calls UInt64,
    no_usage_calls UInt64,
    refused_calls UInt64,
    unpriced_input_tokens UInt64,
    unpriced_output_tokens UInt64
)
ENGINE = Null;
