-- The same in llm_calls.
DELETE FROM llm_calls
WHERE (session_id, path, trace_id, span_id) IN
(
    SELECT old_session_id, old_path, trace_id, span_id
    FROM settling
    WHERE round = {round:UInt64} AND was_counted AND (reason != '' OR (session_id, path) != (old_session_id, old_path))
)
