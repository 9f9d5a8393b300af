SELECT * FROM session_calls WHERE session_id = {session_id:String} ORDER BY started_at, span_id
