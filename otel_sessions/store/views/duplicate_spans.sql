CREATE OR REPLACE VIEW duplicate_spans /*on_cluster*/
(
    session_id String COMMENT 'id of the session; empty for a span outside any session',
    started_at DateTime64(9) COMMENT 'start of the span. Filter by it: only the months asked for are read',
    trace_id String COMMENT 'trace of the span, 32 hex digits',
    span_id String COMMENT 'the span, 16 hex digits',
    span_name LowCardinality(String) COMMENT 'name of the span',
    service LowCardinality(String) COMMENT 'service.name of the process that made it',
    copies UInt64 COMMENT 'how often the span is there: 2 or more',
    surplus UInt64 COMMENT 'copies − 1: what counts too much, until otel-sessions rebuild'
)
COMMENT 'One row per span that was stored more than once. Our exporter leaves none; a Collector may, since it delivers at least once.'
AS
SELECT
    t.SessionId AS session_id,
    t.Timestamp AS started_at,
    t.TraceId AS trace_id,
    t.SpanId AS span_id,
    any(t.SpanName) AS span_name,
    any(t.ServiceName) AS service,
    count() AS copies,
    copies - 1 AS surplus
FROM otel_traces AS t
GROUP BY session_id, started_at, trace_id, span_id
HAVING copies > 1
-- In the order of the table, so that memory does not grow with the number of spans.
SETTINGS optimize_aggregation_in_order = 1;
