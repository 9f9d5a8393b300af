-- Each attribute of a span: the column that it feeds, and whether it does. Of the names of one field the first that the
-- span has is used; a conversation where there is no session; usage and cost in JSON where there are none beside it.
SELECT
    trace_id,
    multiIf(
        field IN ('session', 'conversation'), 'session_id',
        field = 'user', 'user_id',
        field IN ('kind', 'kind_ai_sdk', 'not_llm', 'step'), 'operation',
        field IN ('billable', 'superseded_by', 'aggregated'), 'counted or not',
        field IN ('log', 'log_seconds'), 'started_at, duration_ns',
        field = 'finish', 'finish_reasons',
        field IN ('ttft_milliseconds', 'first_chunk_at'), 'ttft_seconds',
        field IN ('input', 'output', 'reasoning'), concat(field, '_tokens'),
        field = 'cached', 'cached_input_tokens',
        field = 'cache_write', 'cache_write_tokens',
        field = 'total', 'input_tokens',
        field IN ('cache_write_1h', 'audio_input', 'cached_audio_input', 'image_input', 'cached_image_input', 'video_input', 'audio_output', 'image_output', 'video_output', 'web_search'), 'usage_details',
        field = 'usage_json', 'tokens not said otherwise',
        field = 'response_json', 'response_id, response_model',
        field IN ('cost', 'cost_json', 'input_cost', 'output_cost', 'currency'), 'cost_usd',
        field IN ('speed', 'batch', 'region'), 'service_tier',
        field
    ) AS column,
    attribute,
    value,
    multiIf(
        field = '', 'not read',
        value = '', 'empty',
        position > first_position OR (field = 'conversation' AND has_session), 'passed over',
        'used'
    ) AS outcome
FROM
(
    SELECT
        t.TraceId AS trace_id,
        attribute,
        value,
        n.field AS field,
        n.position AS position,
        minIf(n.position, value != '') OVER (PARTITION BY t.TraceId, n.field) AS first_position,
        max(n.field = 'session' AND value != '') OVER (PARTITION BY t.TraceId) AS has_session
    FROM (SELECT TraceId, SpanAttributes FROM otel_traces WHERE SpanId = {span_id:String} LIMIT 1 BY TraceId) AS t
    ARRAY JOIN mapKeys(t.SpanAttributes) AS attribute, mapValues(t.SpanAttributes) AS value
    LEFT JOIN attribute_names AS n ON n.attribute = attribute
)
ORDER BY trace_id, field = '', column, outcome != 'used', position, attribute
