-- What changes for the open calls: what is decided otherwise than before, and rows that came a second time.
INSERT INTO settling
WITH
    -- The traces that the view looks at, so that no more than their calls are read.
    awaited AS
    (
        SELECT trace_id
        FROM open_calls
        WHERE arrived_at >= (SELECT max(settled_at) - toIntervalMinute(10) FROM settlements)
            OR (session_id = '' AND arrived_at >= (SELECT max(settled_at) - toIntervalHour(1) FROM settlements))
    )
SELECT
    {round:UInt64} AS round,
    d.trace_id AS trace_id,
    d.span_id AS span_id,
    if(d.has_changed, d.old_session_id, c.session_id) AS old_session_id,
    if(d.has_changed, d.old_path, c.path) AS old_path,
    d.was_counted OR NOT d.has_changed AS was_counted,
    if(d.has_changed, d.session_id, c.session_id) AS session_id,
    d.session_source AS session_source,
    d.path AS path,
    if(d.has_changed, d.reason, 'delivered again') AS reason,
    if(d.has_changed, d.superseded_by, d.span_id) AS superseded_by
FROM
(
    SELECT
        o.session_id AS old_session_id,
        o.path AS old_path,
        o.reason = '' AS was_counted,
        (o.session_id, o.path, toString(o.reason), o.superseded_by) != (decided.session_id, decided.path, toString(decided.reason), decided.superseded_by) AS has_changed,
        decided.trace_id AS trace_id,
        decided.span_id AS span_id,
        decided.session_id AS session_id,
        toString(decided.session_source) AS session_source,
        decided.path AS path,
        toString(decided.reason) AS reason,
        decided.superseded_by AS superseded_by
    FROM call_decisions AS decided
    INNER JOIN
    (
        SELECT trace_id, span_id, session_id, path, reason, superseded_by
        FROM open_calls FINAL
        WHERE trace_id IN (SELECT trace_id FROM awaited)
    ) AS o ON o.trace_id = decided.trace_id AND o.span_id = decided.span_id
) AS d
LEFT JOIN
(
    SELECT trace_id, span_id, session_id, path, true AS is_there
    FROM llm_calls
    WHERE trace_id IN (SELECT trace_id FROM awaited)
) AS c ON NOT d.has_changed AND c.trace_id = d.trace_id AND c.span_id = d.span_id
WHERE d.has_changed OR (c.is_there AND (d.reason != '' OR (c.session_id, c.path) != (d.session_id, d.path)))
LIMIT 1 BY trace_id, span_id
