-- What was said of those that were left out before: they count now, or they do not for another reason or somewhere else.
DELETE FROM suppressed_calls
WHERE reason != 'delivered again'
    AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM settling WHERE round = {round:UInt64} AND NOT was_counted)
    AND (trace_id, span_id, session_id, path, toString(reason), superseded_by) NOT IN
    (
        SELECT trace_id, span_id, session_id, path, reason, superseded_by
        FROM settling
        WHERE round = {round:UInt64}
    )
