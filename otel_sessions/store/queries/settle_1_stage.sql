-- What changes for the open calls: what is decided otherwise than before, and rows that came a second time.
INSERT INTO settling
WITH
    decided AS
    (
        SELECT
            o.trace_id AS trace_id,
            o.span_id AS span_id,
            o.session_id AS old_session_id,
            o.reason = '' AS was_counted,
            (o.session_id, toString(o.reason), o.superseded_by) != (d.session_id, toString(d.reason), d.superseded_by) AS has_changed,
            d.session_id AS session_id,
            d.session_source AS session_source,
            d.path AS path,
            d.reason AS reason,
            d.superseded_by AS superseded_by
        FROM open_calls AS o FINAL
        INNER JOIN call_decisions AS d ON d.trace_id = o.trace_id AND d.span_id = o.span_id
    )
SELECT {round:UInt64}, trace_id, span_id, old_session_id, was_counted, session_id, session_source, path, reason, superseded_by
FROM decided
WHERE has_changed
UNION ALL
SELECT {round:UInt64}, d.trace_id, d.span_id, c.session_id, true, c.session_id, d.session_source, d.path, 'delivered again', d.span_id
FROM llm_calls AS c
INNER JOIN decided AS d ON d.trace_id = c.trace_id AND d.span_id = c.span_id
WHERE NOT d.has_changed AND (d.reason != '' OR c.session_id != d.session_id)
    AND c.trace_id IN (SELECT trace_id FROM decided)
LIMIT 1 BY trace_id, span_id
