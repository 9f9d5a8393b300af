-- The calls whose price changes, with the old one and the new one.
INSERT INTO repricing
SELECT
    {run:String} AS run,
    reinterpretAsUInt128(sipHash128(p.session_id, p.trace_id, p.span_id, p.called_at)) AS key,
    p.session_id AS session_id,
    p.session_name AS session_name,
    p.path AS path,
    p.called_at AS started_at,
    p.ended_at AS ended_at,
    p.provider AS provider,
    p.model AS model,
    ifNull(p.input_tokens, 0) AS input_tokens,
    ifNull(p.output_tokens, 0) AS output_tokens,
    p.old_usd AS old_usd,
    p.old_status AS old_status,
    p.cost_usd AS cost_usd,
    p.cost_status AS cost_status,
    p.cost_source AS cost_source
FROM
(
    /*calls priced again*/
) AS p
WHERE NOT (p.cost_usd <=> p.old_usd) OR p.cost_status != p.old_status
