CREATE OR REPLACE VIEW session_steps /*on_cluster*/
(
    session_id String COMMENT 'id of the session',
    path String COMMENT 'step; / is the session itself. Intermediate paths have a row even without a span of their own',
    parent_path String COMMENT 'path of the step above; empty for /',
    depth UInt8 COMMENT 'number of segments: 0 for /, 1 for /a',
    started_at DateTime64(9, 'UTC') COMMENT 'start of the first span of any kind at this path or below',
    ended_at DateTime64(9, 'UTC') COMMENT 'end of the last span of any kind at this path or below',
    wall_seconds Float64 COMMENT 'ended_at − started_at',
    own_calls UInt64 COMMENT 'LLM calls at this very path',
    own_errors UInt64 COMMENT 'of these, failed',
    own_llm_seconds Float64 COMMENT 'sum of the durations of the calls at this very path',
    own_input_tokens UInt64 COMMENT 'input tokens of the calls at this very path',
    own_output_tokens UInt64 COMMENT 'output tokens of the calls at this very path',
    own_cost_usd Nullable(Decimal(38, 12)) COMMENT 'cost of the calls at this very path; NULL if there are calls and no cost is known',
    own_unpriced_calls UInt64 COMMENT 'calls at this very path with known usage and no price',
    calls UInt64 COMMENT 'LLM calls at this path and all below',
    errors UInt64 COMMENT 'of these, failed',
    llm_seconds Float64 COMMENT 'sum of the durations of the calls at this path and all below',
    input_tokens UInt64 COMMENT 'input tokens at this path and all below',
    output_tokens UInt64 COMMENT 'output tokens at this path and all below',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'cost at this path and all below; NULL if there are calls and no cost is known',
    cost_status LowCardinality(String) COMMENT 'complete, partial or unknown, as in sessions, for this path and all below',
    unpriced_calls UInt64 COMMENT 'calls at this path and all below with known usage and no price',
    spans UInt64 COMMENT 'spans of any kind at this path and all below'
)
COMMENT 'One row per session and path, intermediate paths included, with own_ numbers (this very path) and inclusive ones (this path and all below).'
AS
SELECT
    session_id,
    path,
    multiIf(path = '/', '', depth = 1, '/', arrayStringConcat(arraySlice(splitByChar('/', path), 1, depth), '/')) AS parent_path,
    toUInt8(if(path = '/', 0, length(splitByChar('/', path)) - 1)) AS depth,
    first_start AS started_at,
    last_end AS ended_at,
    (toUnixTimestamp64Nano(last_end) - toUnixTimestamp64Nano(first_start)) / 1e9 AS wall_seconds,
    own_calls,
    own_errors,
    own_llm_ns / 1e9 AS own_llm_seconds,
    own_input_tokens,
    own_output_tokens,
    if(own_costed_calls > 0 OR own_calls = 0, own_cost, NULL) AS own_cost_usd,
    own_unpriced_calls,
    all_calls AS calls,
    all_errors AS errors,
    all_llm_ns / 1e9 AS llm_seconds,
    all_input_tokens AS input_tokens,
    all_output_tokens AS output_tokens,
    if(all_costed_calls > 0 OR all_calls = 0, all_cost, NULL) AS cost_usd,
    multiIf(
        all_calls = 0, 'complete',
        all_costed_calls = 0, 'unknown',
        all_costed_calls + all_refused_calls < all_calls, 'partial',
        'complete'
    ) AS cost_status,
    all_unpriced_calls AS unpriced_calls,
    all_spans AS spans
FROM
(
    SELECT
        e.session_id AS session_id,
        arrayJoin(if(
            e.at = '/',
            ['/'],
            arrayMap(level -> if(level = 0, '/', arrayStringConcat(arraySlice(splitByChar('/', e.at), 1, level + 1), '/')), range(length(splitByChar('/', e.at))))
        )) AS path,
        min(e.started_at) AS first_start,
        max(addNanoseconds(e.started_at, e.duration_ns)) AS last_end,
        sumIf(e.calls, e.at = path) AS own_calls,
        sumIf(e.errors, e.at = path) AS own_errors,
        sumIf(e.duration_ns, e.at = path AND e.calls = 1) AS own_llm_ns,
        sumIf(e.input_tokens, e.at = path) AS own_input_tokens,
        sumIf(e.output_tokens, e.at = path) AS own_output_tokens,
        sumIf(e.cost, e.at = path) AS own_cost,
        sumIf(e.costed, e.at = path) AS own_costed_calls,
        sumIf(e.unpriced, e.at = path) AS own_unpriced_calls,
        sum(e.calls) AS all_calls,
        sum(e.errors) AS all_errors,
        sumIf(e.duration_ns, e.calls = 1) AS all_llm_ns,
        sum(e.input_tokens) AS all_input_tokens,
        sum(e.output_tokens) AS all_output_tokens,
        sum(e.cost) AS all_cost,
        sum(e.costed) AS all_costed_calls,
        sum(e.unpriced) AS all_unpriced_calls,
        sum(e.refused) AS all_refused_calls,
        sum(e.spans) AS all_spans
    FROM
    (
        SELECT
            t.SessionId AS session_id,
            t.SessionPath AS at,
            toDateTime64(t.Timestamp, 9, 'UTC') AS started_at,
            if(t.Duration < 4611686018427387904, t.Duration, 0) AS duration_ns,
            toUInt8(0) AS calls,
            toUInt8(0) AS errors,
            toUInt64(0) AS input_tokens,
            toUInt64(0) AS output_tokens,
            toDecimal128(0, 12) AS cost,
            toUInt8(0) AS costed,
            toUInt8(0) AS unpriced,
            toUInt8(0) AS refused,
            toUInt8(1) AS spans
        FROM otel_traces AS t
        WHERE t.SessionId != ''
        UNION ALL
        SELECT
            c.session_id AS session_id,
            c.path AS at,
            c.started_at AS started_at,
            c.duration_ns AS duration_ns,
            toUInt8(1) AS calls,
            toUInt8(c.status = 'error') AS errors,
            ifNull(c.input_tokens, 0) AS input_tokens,
            ifNull(c.output_tokens, 0) AS output_tokens,
            ifNull(c.cost_usd, toDecimal128(0, 12)) AS cost,
            toUInt8(c.cost_usd IS NOT NULL) AS costed,
            toUInt8(c.cost_status = 'unpriced') AS unpriced,
            toUInt8(c.cost_status = 'no_usage' AND c.http_status >= 400) AS refused,
            toUInt8(0) AS spans
        FROM llm_calls AS c
        WHERE c.session_id != ''
    ) AS e
    GROUP BY session_id, path
);
