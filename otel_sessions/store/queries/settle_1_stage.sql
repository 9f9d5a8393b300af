-- What changes for the open calls.
INSERT INTO settling
SELECT
    {round:UInt64},
    o.trace_id,
    o.span_id,
    o.session_id,
    o.reason = '',
    d.session_id,
    d.session_source,
    d.path,
    d.reason,
    d.superseded_by
FROM open_calls AS o FINAL
INNER JOIN call_decisions AS d ON d.trace_id = o.trace_id AND d.span_id = o.span_id
WHERE (o.session_id, toString(o.reason), o.superseded_by) != (d.session_id, toString(d.reason), d.superseded_by)
