CREATE OR REPLACE VIEW suppressed_spans /*on_cluster*/
(
    session_id String COMMENT 'id of the session; empty for a span outside any session',
    path String COMMENT 'step of the span',
    trace_id String COMMENT 'trace of the span, 32 hex digits',
    span_id String COMMENT 'the span, 16 hex digits',
    started_at DateTime64(9, 'UTC') COMMENT 'start of the span',
    scope LowCardinality(String) COMMENT 'instrumentation that wrote the span',
    operation LowCardinality(String) COMMENT 'chat, text_completion, generate_content, embeddings, rerank, moderation; empty for a span that is no LLM call',
    model LowCardinality(String) COMMENT 'model that answered; the requested one where the response named none',
    reason LowCardinality(String) COMMENT 'marked in process: the span says so itself; same response id, same usage, same time, nested, logged apart: superseded_by has the same exchange; wrapper: it lies around the spans that count; aggregated: it sums up others',
    superseded_by String COMMENT 'span that accounts for the exchange, 16 hex digits; empty if not known',
    input_tokens Nullable(UInt64) COMMENT 'usage on the span, not counted anywhere',
    output_tokens Nullable(UInt64) COMMENT 'usage on the span, not counted anywhere',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'cost on the span, not counted anywhere'
)
COMMENT 'One row per span with usage that is not counted, because another span accounts for the same exchange, or several do.'
AS
SELECT
    s.session_id AS session_id,
    s.path AS path,
    s.trace_id AS trace_id,
    s.span_id AS span_id,
    s.started_at AS started_at,
    s.scope AS scope,
    s.operation AS operation,
    s.response_model AS model,
    s.reason AS reason,
    s.superseded_by AS superseded_by,
    s.input_tokens AS input_tokens,
    s.output_tokens AS output_tokens,
    s.cost_usd AS cost_usd
FROM suppressed_calls AS s;
