-- Compared segment by segment: '/a/b' comes before '/a b', although a slash sorts after a blank.
SELECT * FROM session_steps WHERE session_id = {session_id:String} ORDER BY splitByChar('/', path)
