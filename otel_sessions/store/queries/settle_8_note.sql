-- What became of them.
INSERT INTO open_calls
SELECT
    c.* REPLACE (
        s.session_id AS session_id,
        s.session_source AS session_source,
        s.path AS path,
        s.reason AS reason,
        s.superseded_by AS superseded_by,
        {round:UInt64} AS version
    )
FROM open_calls AS c FINAL
INNER JOIN settling AS s ON s.trace_id = c.trace_id AND s.span_id = c.span_id
WHERE s.round = {round:UInt64} AND s.reason != 'delivered again'
