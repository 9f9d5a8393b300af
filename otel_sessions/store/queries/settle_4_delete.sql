-- The same in llm_calls.
DELETE FROM llm_calls
WHERE (session_id, trace_id, span_id) IN
(
    SELECT old_session_id, trace_id, span_id
    FROM settling
    WHERE round = {round:UInt64} AND was_counted AND (reason != '' OR session_id != old_session_id)
)
