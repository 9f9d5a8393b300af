-- What was left out, and why.
INSERT INTO suppressed_calls
SELECT
    s.session_id,
    s.path,
    c.trace_id,
    c.span_id,
    c.started_at,
    c.scope,
    c.operation,
    if(c.response_model != '', c.response_model, c.request_model),
    s.reason,
    s.superseded_by,
    c.input_tokens,
    c.output_tokens,
    c.cost_usd
FROM open_calls AS c FINAL
INNER JOIN settling AS s ON s.trace_id = c.trace_id AND s.span_id = c.span_id
WHERE s.round = {round:UInt64} AND s.reason != ''
