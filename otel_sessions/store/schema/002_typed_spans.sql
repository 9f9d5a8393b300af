-- What the spans say, read once. Nothing here is stored (engine Null): this is the one place where the attributes of the
-- instrumentations are read, and what it finds feeds the tables below within the same insert.
-- What takes long in a small insert is the analysis of the views, so they are nested (an alias that is used forty times
-- is analysed forty times), and a view that gets no rows costs nothing: hence the long way and the short one.

-- Every span, its attributes under names of ours, in the order in which they are believed.
CREATE TABLE IF NOT EXISTS found_spans /*on_cluster*/
(
    session_id String,
    path String,
    trace_id String,
    span_id String,
    parent_span_id String,
    starts DateTime64(9),
    ns UInt64,
    service LowCardinality(String),
    scope LowCardinality(String),
    has_failed Bool,
    event_at DateTime64(9),
    exception String,
    is_latest Bool,
    said Map(Enum8(
        'aggregated' = 1, 'audio_input' = 2, 'audio_output' = 3, 'batch' = 4, 'billable' = 5, 'cache_write' = 6,
        'cache_write_1h' = 7, 'cached' = 8, 'cached_audio_input' = 9, 'cached_image_input' = 10, 'conversation' = 11,
        'cost' = 12, 'cost_json' = 13, 'cost_source' = 14, 'cost_status' = 15, 'currency' = 16, 'error_type' = 17,
        'finish' = 18, 'first_chunk_at' = 19, 'http_status' = 20, 'image_input' = 21, 'image_output' = 22, 'input' = 23,
        'input_cost' = 24, 'kind' = 25, 'kind_ai_sdk' = 26, 'log' = 27, 'log_seconds' = 28, 'not_llm' = 29,
        'output' = 30, 'output_cost' = 31, 'path' = 32, 'provider' = 33, 'reasoning' = 34, 'region' = 35,
        'request_model' = 36, 'response_end' = 37, 'response_id' = 38, 'response_json' = 39, 'response_model' = 40,
        'server_address' = 41, 'service_tier' = 42, 'session' = 43, 'session_name' = 44, 'speed' = 45, 'step' = 46,
        'streamed' = 47, 'superseded_by' = 48, 'total' = 49, 'ttft_milliseconds' = 50, 'ttft_seconds' = 51,
        'usage_json' = 52, 'user' = 53, 'video_input' = 54, 'video_output' = 55, 'web_search' = 56
    ), String)
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS found_spans_mv /*on_cluster*/ TO found_spans AS
WITH
    (SELECT (attributes, fields, latest) FROM attribute_order ORDER BY version DESC LIMIT 1) AS known
SELECT
    * EXCEPT (found, is_described),
    (empty(found) OR found[-1].1 <= known.3) AND (scope = 'otel_sessions' OR NOT is_described) AS is_latest,
    arrayMap(each -> (known.2[each.1], each.2), found) AS said
FROM
(
    SELECT
        spans.SessionId AS session_id,
        spans.SessionPath AS path,
        spans.TraceId AS trace_id,
        spans.SpanId AS span_id,
        spans.ParentSpanId AS parent_span_id,
        spans.Timestamp AS starts,
        -- An end before the start (a clock step) wraps around in the Collector's unsigned column; 2^62 ns are 146 years.
        if(spans.Duration < 4611686018427387904, spans.Duration, 0) AS ns,
        spans.ServiceName AS service,
        spans.ScopeName AS scope,
        spans.StatusCode = 'Error' AS has_failed,
        spans.`Events.Timestamp`[arrayFirstIndex(name -> name IN ('First Token Stream Event', 'gen_ai.content.completion.chunk'), spans.`Events.Name`)] AS event_at,
        hasAny(mapKeys(spans.SpanAttributes), ['gen_ai.operation.name', 'gen_ai.usage.input_tokens', 'gen_ai.usage.output_tokens']) AS is_described,
        if(empty(spans.`Events.Name`), '', spans.`Events.Attributes`[indexOf(spans.`Events.Name`, 'exception')]['exception.type']) AS exception,
        arraySort(arrayFilter(
            -- Micrometer, and so Spring AI, writes none where there is nothing.
            each -> each.1 > 0 AND each.2 NOT IN ('', 'none'),
            arrayMap(
                (name, value) -> (transform(name, known.1, arrayEnumerate(known.1), 0), value),
                mapKeys(spans.SpanAttributes),
                mapValues(spans.SpanAttributes)
            )
        )) AS found
    FROM otel_traces AS spans
);

-- Spans of a session, LLM spans, and other spans that carry usage.
CREATE TABLE IF NOT EXISTS read_spans /*on_cluster*/
(
    session_id String,
    session_source LowCardinality(String),
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
    operation LowCardinality(String),
    is_llm Bool,
    is_log Bool,
    is_open Bool,
    is_billable Bool,
    suppressed LowCardinality(String),
    superseded_by String,
    llm Map(Enum8(
        'aggregated' = 1, 'audio_input' = 2, 'audio_output' = 3, 'batch' = 4, 'billable' = 5, 'cache_write' = 6,
        'cache_write_1h' = 7, 'cached' = 8, 'cached_audio_input' = 9, 'cached_image_input' = 10, 'conversation' = 11,
        'cost' = 12, 'cost_json' = 13, 'cost_source' = 14, 'cost_status' = 15, 'currency' = 16, 'error_type' = 17,
        'finish' = 18, 'first_chunk_at' = 19, 'http_status' = 20, 'image_input' = 21, 'image_output' = 22, 'input' = 23,
        'input_cost' = 24, 'kind' = 25, 'kind_ai_sdk' = 26, 'log' = 27, 'log_seconds' = 28, 'not_llm' = 29,
        'output' = 30, 'output_cost' = 31, 'path' = 32, 'provider' = 33, 'reasoning' = 34, 'region' = 35,
        'request_model' = 36, 'response_end' = 37, 'response_id' = 38, 'response_json' = 39, 'response_model' = 40,
        'server_address' = 41, 'service_tier' = 42, 'session' = 43, 'session_name' = 44, 'speed' = 45, 'step' = 46,
        'streamed' = 47, 'superseded_by' = 48, 'total' = 49, 'ttft_milliseconds' = 50, 'ttft_seconds' = 51,
        'usage_json' = 52, 'user' = 53, 'video_input' = 54, 'video_output' = 55, 'web_search' = 56
    ), String)
)
ENGINE = Null;

-- The short way: our own spans, and all that are no LLM calls.
CREATE MATERIALIZED VIEW IF NOT EXISTS latest_spans_mv /*on_cluster*/ TO read_spans AS
SELECT
    session_id,
    multiIf(session_id = '', '', said['session'] != '', 'own', 'conversation') AS session_source,
    said['session_name'] AS session_name,
    path,
    said['user'] AS user_id,
    trace_id,
    span_id,
    parent_span_id,
    starts AS started_at,
    addNanoseconds(starts, ns) AS ended_at,
    ns AS duration_ns,
    service,
    scope,
    if(has_failed OR error_type != '', 'error', 'ok') AS status,
    error_type,
    if(is_llm, said['kind'], '') AS operation,
    is_llm,
    false AS is_log,
    is_llm AND NOT is_marked AND NOT is_certain AS is_open,
    is_llm AND NOT is_marked AS is_billable,
    multiIf(is_llm, if(is_marked, 'marked in process', ''), has_usage, 'wrapper', '') AS suppressed,
    said['superseded_by'] AS superseded_by,
    said AS llm
FROM
(
    SELECT
        *,
        said['kind'] IN ('chat', 'text_completion', 'generate_content', 'embeddings', 'rerank', 'moderation') AND said['step'] != 'true' AS is_llm,
        said['input'] != '' OR said['output'] != '' AS has_usage,
        said['billable'] = 'false' AS is_marked,
        -- Any span but ours may turn out to describe an exchange that another one describes too, and one without a
        -- session to be part of one: whether it does count is settled when its trace is known.
        scope = 'otel_sessions' AND session_id != '' AS is_certain,
        said['error_type'] AS error_type
    FROM found_spans
    WHERE is_latest
)
WHERE session_id != '' OR is_llm OR has_usage;

-- The long way: all others.
CREATE TABLE IF NOT EXISTS other_spans /*on_cluster*/ AS found_spans ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS other_spans_mv /*on_cluster*/ TO other_spans AS
SELECT *
FROM found_spans
WHERE NOT is_latest;

CREATE MATERIALIZED VIEW IF NOT EXISTS other_spans_read_mv /*on_cluster*/ TO read_spans AS
SELECT
    session_id,
    multiIf(session_id = '', '', said['session'] != '', 'own', 'conversation') AS session_source,
    said['session_name'] AS session_name,
    path,
    said['user'] AS user_id,
    trace_id,
    span_id,
    parent_span_id,
    addNanoseconds(starts, -log_ns) AS started_at,
    addNanoseconds(starts, if(log_ns > 0, 0, ns)) AS ended_at,
    if(log_ns > 0, toUInt64(log_ns), ns) AS duration_ns,
    service,
    scope,
    if(has_failed OR error_type != '', 'error', 'ok') AS status,
    error_type,
    if(is_llm, operation_name, '') AS operation,
    is_llm,
    log_ns > 0 AS is_log,
    is_llm AND NOT is_marked AND NOT is_certain AS is_open,
    is_llm AND NOT is_marked AS is_billable,
    multiIf(is_llm, if(is_marked, 'marked in process', ''), said['aggregated'] != '', 'aggregated', has_usage, 'wrapper', '') AS suppressed,
    said['superseded_by'] AS superseded_by,
    CAST(
        arrayConcat(
            arrayFilter(pair -> pair.2 != '', [
                ('provider', provider),
                ('request_model', if(startsWith(said['request_model'], '"'), trim(BOTH '"' FROM said['request_model']), '')),
                ('response_model', if(startsWith(said['response_model'], '"'), trim(BOTH '"' FROM said['response_model']), '')),
                ('streamed', lower(said['streamed'])),
                ('finish', replaceAll(if(startsWith(said['finish'], '"'), said['finish'], ''), '"', '')),
                ('ttft_seconds', multiIf(
                    said['ttft_milliseconds'] != '', toString(toFloat64OrZero(said['ttft_milliseconds']) / 1000),
                    -- Strands writes milliseconds as seconds.
                    toFloat64OrZero(said['ttft_seconds']) * 1e9 > ns, toString(toFloat64OrZero(said['ttft_seconds']) / 1000),
                    first_chunk > starts, toString((toUnixTimestamp64Nano(first_chunk) - toUnixTimestamp64Nano(starts)) / 1e9),
                    ''
                )),
                ('input', full_input),
                -- Gemini counts what it thinks apart from the output; the total says how much that was.
                ('output', if(startsWith(provider, 'gcp.') AND said['reasoning'] = '' AND total_tokens > input_tokens + output_tokens, toString(total_tokens - input_tokens), '')),
                ('cost', multiIf(
                    lower(said['currency']) NOT IN ('', 'usd') OR startsWith(said['cost'], '-'), 'unknown',
                    -- Nobody works for nothing: who says so has no price.
                    scope != 'otel_sessions' AND has_usage AND toFloat64OrNull(said['cost']) = 0, 'unknown',
                    said['cost'] = '' AND said['input_cost'] != '', toString(toDecimal128OrZero(said['input_cost'], 12) + toDecimal128OrZero(said['output_cost'], 12)),
                    ''
                ))
            ]),
            arrayFilter(pair -> pair.1 != 'provider', pairs)
        ),
        'Map(String, String)'
    ) AS llm
FROM
(
    SELECT
        *,
        operation_name IN ('chat', 'text_completion', 'generate_content', 'embeddings', 'rerank', 'moderation') AND said['step'] != 'true' AS is_llm,
        said['billable'] = 'false' AS is_marked,
        scope = 'otel_sessions' AND session_id != '' AS is_certain,
        if(said['error_type'] = '' AND has_failed, exception, said['error_type']) AS error_type,
        if(said['first_chunk_at'] = '', event_at, parseDateTime64BestEffortOrZero(replaceAll(said['first_chunk_at'], '"', ''), 9, 'UTC')) AS first_chunk,
        transform(
            replaceRegexpOne(lower(trim(BOTH '"' FROM said['provider'])), '\\.(chat|completions?|responses|messages|embedding|textembedding|image|speech|transcription)$', ''),
            ['az.ai.openai', 'azure', 'azure-openai', 'azure_openai', 'azure.openai', 'az.ai.inference', 'azure_ai', 'vertex_ai', 'vertexai', 'gcp.vertex', 'vertex.anthropic', 'googlevertex.anthropic', 'google.vertex', 'google_vertexai', 'gemini', 'google', 'google_genai', 'google.generative-ai', 'googleai', 'gcp.gen_ai', 'xai', 'x-ai', 'mistral', 'mistralai', 'aws', 'bedrock', 'bedrock.anthropic', 'aws_bedrock', 'amazon-bedrock', 'amazon_bedrock', 'watsonx', 'togetherai', 'together_ai', 'fireworks_ai', 'moonshot', 'moonshotai', 'langchain', 'strands-agents'],
            ['azure.ai.openai', 'azure.ai.openai', 'azure.ai.openai', 'azure.ai.openai', 'azure.ai.openai', 'azure.ai.inference', 'azure.ai.inference', 'gcp.vertex_ai', 'gcp.vertex_ai', 'gcp.vertex_ai', 'gcp.vertex_ai', 'gcp.vertex_ai', 'gcp.vertex_ai', 'gcp.vertex_ai', 'gcp.gemini', 'gcp.gemini', 'gcp.gemini', 'gcp.gemini', 'gcp.gemini', 'gcp.gemini', 'x_ai', 'x_ai', 'mistral_ai', 'mistral_ai', 'aws.bedrock', 'aws.bedrock', 'aws.bedrock', 'aws.bedrock', 'aws.bedrock', 'aws.bedrock', 'ibm.watsonx.ai', 'together', 'together', 'fireworks', 'moonshot_ai', 'moonshot_ai', '', '']
        ) AS provider,
        -- Raw Anthropic numbers leave the cache out of the input; everybody else has it in.
        if(
            cache_tokens > 0 AND (cache_tokens > input_tokens AND scope != 'otel_sessions' OR total_tokens = input_tokens + output_tokens + cache_tokens),
            toString(input_tokens + cache_tokens),
            ''
        ) AS full_input
    FROM
    (
        SELECT
            *,
            multiIf(
                kind != '', transform(
                    kind,
                    ['llm', 'llm_call', 'llm_request', 'generation', 'chat_model', 'chat_completion', 'chat.completions', 'chat_streaming', 'messages', 'responses', 'completion', 'text.completions', 'embedding', 'ai.generatetext.dogenerate', 'ai.streamtext.dostream', 'ai.generateobject.dogenerate', 'ai.streamobject.dostream', 'ai.embed.doembed', 'ai.embedmany.doembed'],
                    ['chat', 'chat', 'chat', 'chat', 'chat', 'chat', 'chat', 'chat', 'chat', 'chat', 'text_completion', 'text_completion', 'embeddings', 'chat', 'chat', 'chat', 'chat', 'embeddings', 'embeddings'],
                    kind
                ),
                has_usage AND said['not_llm'] = '' AND (said['request_model'] != '' OR said['response_model'] != ''), 'chat',
                ''
            ) AS operation_name,
            -- Logfire writes what a stream took in a log beside the span, which ends when the stream begins.
            if(said['log'] = 'log' AND seconds > 0 AND seconds < 86400, toInt64(1e9 * seconds), 0) AS log_ns
        FROM
        (
            SELECT
                *,
                lower(replaceAll(if(said['kind_ai_sdk'] != '', said['kind_ai_sdk'], said['kind']), '"', '')) AS kind,
                said['input'] != '' OR said['output'] != '' AS has_usage,
                toFloat64OrZero(said['log_seconds']) AS seconds,
                toUInt64OrZero(said['cached']) + toUInt64OrZero(said['cache_write']) AS cache_tokens,
                toUInt64OrZero(said['input']) AS input_tokens,
                toUInt64OrZero(said['output']) AS output_tokens,
                toUInt64OrZero(said['total']) AS total_tokens
            FROM
            (
                SELECT *, CAST(pairs, 'Map(String, String)') AS said
                FROM
                (
                    SELECT
                        * EXCEPT (said),
                        -- What stands in JSON is believed last. Of a usage object the numbers beside each other are exclusive
                        -- buckets, unless its total says otherwise; OpenAI's nested details are parts.
                        arrayConcat(
                            others.pairs,
                            arrayFilter(pair -> pair.2 NOT IN ('', '0', 'null'), arrayFlatten(arrayConcat(
                                arrayMap(
                                    sums -> [
                                        ('input', toString(if(sums[3] = sums[7] + sums[8], sums[7], sums[1]))),
                                        ('output', toString(if(sums[3] = sums[7] + sums[8], sums[8], sums[2]))),
                                        ('cached', toString(sums[4])),
                                        ('cache_write', toString(sums[5])),
                                        ('reasoning', toString(sums[6]))
                                    ],
                                    arrayMap(
                                        buckets -> arrayMap(
                                            pattern -> arraySum(bucket -> if(match(bucket.1, pattern), least(bucket.2, 1000000000001), 0), buckets),
                                            ['input|prompt|cache', 'output|completion', '^total', 'cache(d|_read)|^.read', 'cache_(creation|write)|^.written', 'reasoning|^.thought', '^(input|prompt)(_tokens)?$', '^(output|completion)(_tokens)?$']
                                        ),
                                        arrayMap(
                                            json -> arrayConcat(
                                                JSONExtractKeysAndValues(json, 'UInt64'),
                                                [
                                                    ('+read', JSONExtractUInt(json, 'prompt_tokens_details', 'cached_tokens') + JSONExtractUInt(json, 'input_tokens_details', 'cached_tokens') + JSONExtractUInt(json, 'input_token_details', 'cache_read')),
                                                    ('+written', JSONExtractUInt(json, 'input_token_details', 'cache_creation')),
                                                    ('+thought', JSONExtractUInt(json, 'completion_tokens_details', 'reasoning_tokens') + JSONExtractUInt(json, 'output_tokens_details', 'reasoning_tokens') + JSONExtractUInt(json, 'output_token_details', 'reasoning'))
                                                ]
                                            ),
                                            arrayMap(pair -> pair.2, arrayFilter(pair -> pair.1 = 'usage_json', others.pairs))
                                        )
                                    )
                                ),
                                arrayMap(
                                    pair -> [
                                        ('cost', JSONExtractRaw(pair.2, 'total_cost')),
                                        ('cost', if(pair.1 = 'cost_json', JSONExtractRaw(pair.2, 'total'), '')),
                                        -- Langfuse: a total that is not stated is that of the parts.
                                        ('cost', if(pair.1 = 'cost_json', toString(arraySum(part -> toDecimal128OrZero(part.2, 12), JSONExtractKeysAndValuesRaw(pair.2))), ''))
                                    ],
                                    arrayFilter(pair -> pair.1 IN ('cost_json', 'usage_json'), others.pairs)
                                ),
                                arrayMap(
                                    pair -> [('response_id', JSONExtractString(pair.2, 'id')), ('response_model', JSONExtractString(pair.2, 'model'))],
                                    arrayFilter(pair -> pair.1 = 'response_json' AND startsWith(pair.2, '{'), others.pairs)
                                )
                            )))
                        ) AS pairs
                    FROM
                    (
                        SELECT * EXCEPT (said), CAST(said, 'Array(Tuple(String, String))') AS pairs
                        FROM other_spans
                    ) AS others
                )
            )
        )
    )
)
WHERE session_id != '' OR is_llm OR suppressed != '';

-- The same spans with typed fields and their price (which 008 looks up).
-- What counts (calls, tokens, cost) is 0 on everything but the billable call of an exchange, so that the tables below
-- only add up. A correction is no span: it takes the place and time of a call whose price changed later, and counts
-- nothing but the difference (below zero too: unsigned sums wrap around and come out right).
CREATE TABLE IF NOT EXISTS typed_spans /*on_cluster*/
(
    session_id String,
    session_source LowCardinality(String),
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
    is_log Bool,
    is_open Bool,
    is_billable Bool,
    suppressed LowCardinality(String),
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
    unbilled_calls UInt64,
    unpriced_input_tokens UInt64,
    unpriced_output_tokens UInt64
)
ENGINE = Null;
