-- Ids that begin with what was given come first, then sessions of that name, then ids by edit distance.
SELECT session_id
FROM
(
    SELECT
        session_id,
        multiIf(
            startsWith(session_id, {session_id:String}), 0,
            session_name = {session_id:String}, 1,
            2 + editDistance(left(session_id, 256), left({session_id:String}, 256))
        ) AS distance,
        started_at
    FROM sessions
)
WHERE distance <= 2 + greatest(3, length({session_id:String}) / 3)
ORDER BY distance, started_at DESC
LIMIT 5
