CREATE OR REPLACE VIEW path_templates /*on_cluster*/
(
    session_name String COMMENT 'name of the sessions; empty for those without a name',
    path String COMMENT 'step in these sessions; / is the session itself',
    sessions UInt64 COMMENT 'sessions that have this path',
    calls UInt64 COMMENT 'LLM calls at this path and all below, over all these sessions',
    errors UInt64 COMMENT 'of these, failed',
    input_tokens UInt64 COMMENT 'input tokens at this path and all below',
    output_tokens UInt64 COMMENT 'output tokens at this path and all below',
    own_calls UInt64 COMMENT 'LLM calls at this very path',
    own_cost_usd Nullable(Decimal(38, 12)) COMMENT 'known cost of the calls at this very path; NULL if there are calls and no cost is known',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'cost at this path and all below, over all sessions; NULL if no cost is known',
    cost_p50_usd Nullable(Float64) COMMENT 'median over the sessions of what this path and all below cost',
    cost_p95_usd Nullable(Float64) COMMENT '95th percentile over the sessions of what this path and all below cost',
    unpriced_calls UInt64 COMMENT 'calls with known usage and no price',
    llm_seconds Float64 COMMENT 'sum of the durations of the calls at this path and all below',
    latency_p50_seconds Nullable(Float64) COMMENT 'median duration of one LLM call at this path or below',
    latency_p95_seconds Nullable(Float64) COMMENT '95th percentile of the duration of one LLM call at this path or below',
    wall_p50_seconds Float64 COMMENT 'median over the sessions of last end − first start at this path and below',
    wall_p95_seconds Float64 COMMENT '95th percentile of the same'
)
COMMENT 'One row per session name and path, over all sessions of that name.'
AS
-- Spans without a name (the row of their session at / says so) count under the name that others gave to the session
-- last: such sessions may have rows under two names and are summed by hand, all others by FINAL.
-- A cost is known if a call has one (2^32 in costed_calls) or if none is billed (as many as calls), as in sessions.
SELECT
    t.session_name AS session_name,
    t.path AS path,
    count() AS sessions,
    sum(t.calls) AS calls,
    sum(t.errors) AS errors,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.own_calls) AS own_calls,
    if((sum(t.own_costed_calls) AS own_costed) >= 4294967296 OR own_costed = own_calls, sum(t.own_cost_usd), NULL) AS own_cost_usd,
    if((sum(t.costed_calls) AS costed) >= 4294967296 OR costed = calls, sum(t.cost_usd), NULL) AS cost_usd,
    ifNotFinite((quantilesExactInclusiveIf(0.5, 0.95)(toFloat64(t.cost_usd), t.costed_calls >= 4294967296 OR t.costed_calls = t.calls) AS costs)[1], NULL) AS cost_p50_usd,
    ifNotFinite(costs[2], NULL) AS cost_p95_usd,
    sum(t.unpriced_calls) AS unpriced_calls,
    sum(t.llm_ns) / 1e9 AS llm_seconds,
    ifNotFinite((quantilesExactInclusiveArray(0.5, 0.95)(t.latencies) AS latencies)[1], NULL) AS latency_p50_seconds,
    ifNotFinite(latencies[2], NULL) AS latency_p95_seconds,
    (quantilesExactInclusive(0.5, 0.95)(dateDiff('nanosecond', t.started_at, t.ended_at)) AS walls)[1] / 1e9 AS wall_p50_seconds,
    walls[2] / 1e9 AS wall_p95_seconds
FROM
(
    SELECT a.* EXCEPT (session_id)
    FROM path_rollup AS a FINAL
    WHERE a.session_key NOT IN (SELECT o.session_key FROM path_rollup AS o WHERE o.is_unnamed AND o.path = '/')
    UNION ALL
    SELECT
        u.session_name AS session_name,
        u.path AS path,
        min(u.started_at) AS started_at,
        max(u.ended_at) AS ended_at,
        sum(u.own_calls) AS own_calls,
        sum(u.own_cost_usd) AS own_cost_usd,
        sum(u.calls) AS calls,
        sum(u.errors) AS errors,
        sum(u.llm_ns) AS llm_ns,
        sum(u.input_tokens) AS input_tokens,
        sum(u.output_tokens) AS output_tokens,
        sum(u.cost_usd) AS cost_usd,
        sum(u.own_costed_calls) AS own_costed_calls,
        sum(u.costed_calls) AS costed_calls,
        sum(u.unpriced_calls) AS unpriced_calls,
        groupArrayArray(u.latencies) AS latencies
    FROM
    (
        SELECT b.*, b.session_key AS session_key FROM path_rollup AS b WHERE NOT b.is_unnamed AND b.session_key IN (SELECT o.session_key FROM path_rollup AS o WHERE o.is_unnamed AND o.path = '/')
        UNION ALL
        SELECT r.* REPLACE (n.session_name AS session_name), r.session_key AS session_key
        FROM path_rollup AS r
        INNER JOIN
        (
            SELECT s.session_id AS session_id, s.named.2 AS session_name
            FROM session_rollup AS s FINAL
            WHERE s.session_id IN (SELECT o.session_id FROM path_rollup AS o WHERE o.is_unnamed AND o.path = '/')
        ) AS n ON n.session_id = r.session_id
        WHERE r.is_unnamed
    ) AS u
    GROUP BY session_name, path, u.session_key
) AS t
GROUP BY session_name, path;
