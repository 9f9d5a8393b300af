-- Read from the raw spans: an audit of one session, or of a day, is rare, and a rollup would cost every insert.
CREATE OR REPLACE VIEW session_completeness /*on_cluster*/
(
    session_id String COMMENT 'id of the session',
    process String COMMENT 'a process that made spans of it, by a name that is new in each',
    service LowCardinality(String) COMMENT 'service.name of the process',
    made UInt64 COMMENT 'spans that the process made, those included that it had to drop, as far as the store can know',
    arrived UInt64 COMMENT 'different spans of these that are in the store',
    missing UInt64 COMMENT 'made - arrived',
    duplicates UInt64 COMMENT 'spans that are there more than once',
    has_ended Bool COMMENT 'the process ended the session, and made no span in it afterwards, step spans apart',
    is_complete Bool COMMENT 'has_ended and nothing is missing: all that the process made of the session is here',
    last_span_at DateTime64(9, 'UTC') COMMENT 'start of the last span that arrived'
)
COMMENT 'One row per session and process that used this package: how many spans it made, and how many arrived.'
AS
SELECT
    t.SessionId AS session_id,
    t.SpanAttributes['otel_sessions.process'] AS process,
    any(t.ServiceName) AS service,
    max(toUInt64OrZero(t.SpanAttributes['otel_sessions.sequence'])) AS made,
    uniqExact(t.SpanAttributes['otel_sessions.sequence']) AS arrived,
    made - arrived AS missing,
    count() - arrived AS duplicates,
    toBool(
        maxIf(toUInt64OrZero(t.SpanAttributes['otel_sessions.sequence']), t.SpanAttributes['otel_sessions.end'] = 'true')
            > maxIf(toUInt64OrZero(t.SpanAttributes['otel_sessions.sequence']), t.SpanAttributes['otel_sessions.step'] != 'true')
    ) AS has_ended,
    toBool(has_ended AND missing = 0) AS is_complete,
    max(t.Timestamp) AS last_span_at
FROM otel_traces AS t
WHERE t.SpanAttributes['otel_sessions.process'] != ''
GROUP BY session_id, process;
