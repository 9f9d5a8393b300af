SELECT r.unbilled_calls FROM session_rollup AS r FINAL WHERE r.session_id = {session_id:String}
