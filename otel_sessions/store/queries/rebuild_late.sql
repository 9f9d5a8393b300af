-- The spans that arrived since the rebuild began, unless they are here already.
INSERT INTO otel_traces (/*columns*/)
SELECT /*columns*/
FROM arrivals
WHERE (TraceId, SpanId, Timestamp) NOT IN
(
    SELECT TraceId, SpanId, Timestamp
    FROM otel_traces
    WHERE TraceId IN (SELECT TraceId FROM arrivals)
)
LIMIT 1 BY TraceId, SpanId, Timestamp
