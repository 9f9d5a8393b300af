SELECT * FROM session_steps WHERE session_id = {session_id:String}
