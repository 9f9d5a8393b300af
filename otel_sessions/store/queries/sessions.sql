SELECT * FROM sessions WHERE session_id IN {session_ids:Array(String)}
