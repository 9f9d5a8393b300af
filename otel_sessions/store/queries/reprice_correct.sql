-- The differences, for all rollups at once. In one order, so that the blocks of a second run are those of the first.
INSERT INTO typed_spans
(
    session_id, session_name, path, started_at, ended_at, provider, model, is_correction,
    counted_cost_usd, costed_calls, unpriced_calls, unpriced_input_tokens, unpriced_output_tokens
)
SELECT
    r.session_id,
    r.session_name,
    r.path,
    r.started_at,
    r.ended_at,
    r.provider,
    r.model,
    true,
    ifNull(r.cost_usd, 0) - ifNull(r.old_usd, 0),
    toUInt64(toInt64(r.cost_usd IS NOT NULL) - toInt64(r.old_usd IS NOT NULL)),
    toUInt64(toInt64(r.cost_status = 'unpriced') - toInt64(r.old_status = 'unpriced')),
    toUInt64((toInt64(r.cost_status = 'unpriced') - toInt64(r.old_status = 'unpriced')) * r.input_tokens),
    toUInt64((toInt64(r.cost_status = 'unpriced') - toInt64(r.old_status = 'unpriced')) * r.output_tokens)
FROM repricing AS r
WHERE r.run = {run:String}
ORDER BY r.session_id, r.started_at, r.key
SETTINGS max_threads = 1
