-- One day of LLM calls as the exporter would have written them: sessions of 12 or 13 calls at 6 paths, 10 names,
-- 4 models, one call in 50 failed, some cached tokens; the cost stands on the span.
INSERT INTO otel_traces
(
    Timestamp, TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, ResourceAttributes, ScopeName,
    SpanAttributes, Duration, StatusCode
)
WITH
    intDiv(number, 12) AS session,
    number % 12 AS step,
    {day:UInt32} * 1000000 + session AS session_number,
    toUnixTimestamp64Milli({start:DateTime64(3, 'UTC')}) + intDiv(session * 86400000, {sessions:UInt64}) AS session_ms,
    lower(hex(MD5(toString(session_number)))) AS digest,
    if(
        {random_ids:Bool},
        concat('ticket-', substring(digest, 1, 24)),
        concat(
            substring(leftPad(lower(hex(session_ms)), 12, '0'), 1, 8), '-', substring(leftPad(lower(hex(session_ms)), 12, '0'), 9, 4),
            '-7', substring(digest, 1, 3), '-a', substring(digest, 4, 3), '-', substring(digest, 7, 12)
        )
    ) AS session_id,
    sipHash64(session_number, step) AS dice,
    ['gpt-4o-mini-2024-07-18', 'gpt-4o-2024-08-06', 'claude-sonnet-4-5-20250929', 'gemini-2.5-flash'][dice % 4 + 1] AS model,
    ['openai', 'openai', 'anthropic', 'gcp.gemini'][dice % 4 + 1] AS provider,
    ['/triage/classify', '/triage/classify', '/research/search', '/research/search', '/research/read', '/research/read',
     '/research/read', '/research/read', '/research', '/respond/draft', '/respond/draft', '/respond'][step + 1] AS path,
    200 + dice % 4000 AS input,
    20 + dice % 900 AS output
SELECT
    fromUnixTimestamp64Nano((session_ms + step * 4000 + dice % 1000) * 1000000, 'UTC'),
    lower(hex(SHA256(session_id))) AS trace,
    lower(hex(dice)),
    substring(trace, 1, 16),
    concat('chat ', model),
    'Client',
    concat('agent-', toString(session_number % 3)),
    map('service.name', concat('agent-', toString(session_number % 3))),
    'otel_sessions',
    mapFilter((key, value) -> value != '', map(
        'session.id', session_id,
        'session.name', concat('workflow-', toString(session_number % 10)),
        'session.path', path,
        'user.id', concat('user-', toString(session_number % 5000)),
        'gen_ai.operation.name', 'chat',
        'gen_ai.provider.name', provider,
        'gen_ai.request.model', model,
        'gen_ai.response.model', model,
        'gen_ai.response.id', concat('resp-', lower(hex(dice))),
        'gen_ai.usage.input_tokens', toString(input),
        'gen_ai.usage.output_tokens', toString(output),
        'gen_ai.usage.cache_read.input_tokens', if(dice % 3 = 0, toString(intDiv(input, 2)), ''),
        'gen_ai.response.finish_reasons', '["stop"]',
        'gen_ai.response.time_to_first_chunk', if(dice % 2 = 0, '0.35', ''),
        'gen_ai.usage.cost', toString((input * 3 + output * 15) / 1000000),
        'otel_sessions.cost.status', 'priced',
        'server.address', 'api.example.com',
        'error.type', if(dice % 50 = 0, '500', '')
    )),
    300000000 + dice % 5000000000,
    if(dice % 50 = 0, 'Error', 'Unset')
FROM numbers({sessions:UInt64} * 12)
