-- Calls of the last hours that no session claims.
SELECT count()
FROM session_calls
WHERE session_calls.session_id = '' AND session_calls.started_at > now64(9) - toIntervalHour({hours:UInt32})
