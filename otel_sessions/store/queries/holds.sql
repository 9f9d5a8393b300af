-- The month's partition and the index on TraceId leave few rows to look at.
SELECT 1
FROM otel_traces
WHERE Timestamp = fromUnixTimestamp64Nano({nanoseconds:Int64})
    AND TraceId = {trace_id:String}
    AND SpanId = {span_id:String}
LIMIT 1
