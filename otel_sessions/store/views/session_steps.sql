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
-- The counts travel as one array (totals, own), because planning twenty sums takes longer than reading the session:
-- 1 calls, 2 errors, 3 nanoseconds, 4 input tokens, 5 output tokens, 6 calls with a cost, 7 unpriced, 8 refused, 9 spans.
-- '/a/b' counts at the levels 0, 1 and 2; cutting it by a lambda took half of the planning.
SELECT
    p.session_id AS session_id,
    p.path AS path,
    if(p.level = 0, '', greatest('/', substringIndex(p.path, '/', p.level))) AS parent_path,
    toUInt8(p.level) AS depth,
    p.first_start AS started_at,
    p.last_end AS ended_at,
    dateDiff('nanosecond', p.first_start, p.last_end) / 1e9 AS wall_seconds,
    p.own[1] AS own_calls,
    p.own[2] AS own_errors,
    p.own[3] / 1e9 AS own_llm_seconds,
    p.own[4] AS own_input_tokens,
    p.own[5] AS own_output_tokens,
    if(p.own[6] > 0 OR p.own[8] = p.own[1], p.own_cost, NULL) AS own_cost_usd,
    p.own[7] AS own_unpriced_calls,
    p.totals[1] AS calls,
    p.totals[2] AS errors,
    p.totals[3] / 1e9 AS llm_seconds,
    p.totals[4] AS input_tokens,
    p.totals[5] AS output_tokens,
    if(p.totals[6] > 0 OR p.totals[8] = p.totals[1], p.cost, NULL) AS cost_usd,
    multiIf(p.totals[6] + p.totals[8] = p.totals[1], 'complete', p.totals[6] = 0, 'unknown', 'partial') AS cost_status,
    p.totals[7] AS unpriced_calls,
    p.totals[9] AS spans
FROM
(
    SELECT
        e.session_id AS session_id,
        e.level AS level,
        greatest('/', substringIndex(e.at, '/', e.level + 1)) AS path,
        min(e.starts) AS first_start,
        max(e.ends) AS last_end,
        sumForEach(e.counts) AS totals,
        sumForEachIf(e.counts, e.at = path) AS own,
        sum(e.cost) AS cost,
        sumIf(e.cost, e.at = path) AS own_cost
    FROM
    (
        SELECT
            t.SessionId AS session_id,
            t.SessionPath AS at,
            arrayJoin(range(countSubstrings(at, '/') + (at != '/'))) AS level,
            t.Timestamp AS starts,
            addNanoseconds(starts, if(t.Duration < 4611686018427387904, t.Duration, 0)) AS ends,
            CAST([0, 0, 0, 0, 0, 0, 0, 0, 1], 'Array(UInt64)') AS counts,
            toDecimal128(0, 12) AS cost
        FROM otel_traces AS t
        WHERE t.SessionId != ''
        UNION ALL
        SELECT
            c.session_id AS session_id,
            c.path AS at,
            arrayJoin(range(countSubstrings(at, '/') + (at != '/'))) AS level,
            c.started_at AS starts,
            addNanoseconds(starts, c.duration_ns) AS ends,
            [1, c.status = 'error', c.duration_ns, ifNull(c.input_tokens, 0), ifNull(c.output_tokens, 0), c.cost_usd IS NOT NULL, c.cost_status = 'unpriced', c.cost_source = 'not billed', 0] AS counts,
            ifNull(c.cost_usd, 0) AS cost
        FROM llm_calls AS c
        WHERE c.session_id != ''
    ) AS e
    GROUP BY session_id, level, path
) AS p;
