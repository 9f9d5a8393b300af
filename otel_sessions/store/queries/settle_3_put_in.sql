-- Adds to the rollups what counts in another session, or at another path, than it did, or did not count before.
INSERT INTO typed_spans
(
    session_id, session_name, path, user_id, started_at, ended_at, duration_ns, service, provider, model, is_billable, is_correction,
    counted_calls, counted_errors, counted_ns, counted_input_tokens, counted_cached_tokens, counted_cache_write_tokens,
    counted_output_tokens, counted_reasoning_tokens, counted_cost_usd, costed_calls, unpriced_calls, no_usage_calls, unbilled_calls,
    unpriced_input_tokens, unpriced_output_tokens
)
SELECT
    s.session_id AS session_id,
    c.session_name AS session_name,
    s.path AS path,
    c.user_id AS user_id,
    c.started_at AS started_at,
    addNanoseconds(c.started_at, c.duration_ns) AS ended_at,
    c.duration_ns AS duration_ns,
    c.service AS service,
    c.provider AS provider,
    if(c.response_model != '', c.response_model, c.request_model) AS model,
    true AS is_billable,
    true AS is_correction,
    toUInt64(1) AS counted_calls,
    toUInt64(c.status = 'error') AS counted_errors,
    toUInt64(c.duration_ns) AS counted_ns,
    toUInt64(ifNull(c.input_tokens, 0)) AS counted_input_tokens,
    toUInt64(ifNull(c.cached_input_tokens, 0)) AS counted_cached_tokens,
    toUInt64(ifNull(c.cache_write_tokens, 0)) AS counted_cache_write_tokens,
    toUInt64(ifNull(c.output_tokens, 0)) AS counted_output_tokens,
    toUInt64(ifNull(c.reasoning_tokens, 0)) AS counted_reasoning_tokens,
    ifNull(c.cost_usd, 0) AS counted_cost_usd,
    toUInt64(c.cost_usd IS NOT NULL) AS costed_calls,
    toUInt64(c.cost_status = 'unpriced') AS unpriced_calls,
    toUInt64(c.cost_status = 'no_usage') AS no_usage_calls,
    toUInt64(c.cost_source = 'not billed') AS unbilled_calls,
    toUInt64(if(c.cost_status = 'unpriced', ifNull(c.input_tokens, 0), 0)) AS unpriced_input_tokens,
    toUInt64(if(c.cost_status = 'unpriced', ifNull(c.output_tokens, 0), 0)) AS unpriced_output_tokens
FROM open_calls AS c FINAL
INNER JOIN settling AS s ON s.trace_id = c.trace_id AND s.span_id = c.span_id
WHERE s.round = {round:UInt64} AND s.reason = '' AND (NOT s.was_counted OR (s.session_id, s.path) != (s.old_session_id, s.old_path))
ORDER BY s.session_id, c.started_at, c.trace_id, c.span_id
SETTINGS max_threads = 1
