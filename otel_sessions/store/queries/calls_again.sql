-- Calls as the pricing view reads spans, so that it can price them anew; what they cost so far is handed through.
-- {at}: price them as if they were made then. {provider}, {model}: as if they had gone there.
SELECT
    c.session_id AS session_id,
    c.session_name AS session_name,
    c.path AS path,
    c.user_id AS user_id,
    c.trace_id AS trace_id,
    c.span_id AS span_id,
    c.parent_span_id AS parent_span_id,
    ifNull({at:Nullable(DateTime64(9, 'UTC'))}, c.started_at) AS started_at,
    addNanoseconds(c.started_at, c.duration_ns) AS ended_at,
    c.duration_ns AS duration_ns,
    c.service AS service,
    c.scope AS scope,
    c.status AS status,
    c.error_type AS error_type,
    '' AS suppressed,
    '' AS superseded_by,
    c.session_source AS session_source,
    c.operation AS operation,
    true AS is_llm,
    false AS is_log,
    false AS is_open,
    true AS is_billable,
    mapConcat(
        mapApply((kind, count) -> (toString(kind), toString(count)), c.usage_details),
        map(
            'provider', if({model:String} = '', toString(c.provider), {provider:String}),
            'request_model', if({model:String} = '', toString(c.request_model), {model:String}),
            'response_model', if({model:String} = '', toString(c.response_model), {model:String}),
            'service_tier', if({model:String} = '', toString(c.service_tier), ''),
            'http_status', toString(c.http_status),
            'input', ifNull(toString(c.input_tokens), ''),
            'cached', ifNull(toString(c.cached_input_tokens), ''),
            'cache_write', ifNull(toString(c.cache_write_tokens), ''),
            'output', ifNull(toString(c.output_tokens), ''),
            'reasoning', ifNull(toString(c.reasoning_tokens), ''),
            'cost', if({keep:Bool}, ifNull(toString(c.cost_usd), ''), ''),
            'cost_status', if({keep:Bool}, toString(c.cost_status), ''),
            'cost_source', if({keep:Bool}, toString(c.cost_source), '')
        )
    ) AS llm,
    c.provider AS old_provider,
    c.response_model AS old_response_model,
    c.request_model AS old_request_model,
    c.started_at AS called_at,
    c.cost_usd AS old_usd,
    c.cost_status AS old_status
FROM llm_calls AS c
WHERE c.started_at >= {since:DateTime64(9, 'UTC')}
    AND c.started_at < {until:DateTime64(9, 'UTC')}
    AND ({session_id:Nullable(String)} IS NULL OR c.session_id = {session_id:Nullable(String)})
    AND c.cost_status != 'no_usage'
    AND (NOT {unpriced:Bool} OR c.cost_status = 'unpriced')
