-- The spans that began on a day, each once.
INSERT INTO otel_traces (/*columns*/)
SELECT /*columns*/
FROM /*source*/
WHERE toDate(Timestamp, 'UTC') = {day:Date} AND Timestamp >= {day:Date} - toIntervalDay(1) AND Timestamp < {day:Date} + toIntervalDay(2)
ORDER BY SessionId, Timestamp
LIMIT 1 BY TraceId, SpanId, Timestamp
