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
-- Sums and latencies do not mind that a session has several rows until the parts are merged. What is per session (its
-- number, percentiles of cost and wall) does: it is read apart, with FINAL, from few columns. Spans without a name (the
-- row of their session at / says so) count under the name that others gave to the session; such sessions are summed by hand.
SELECT
    t.session_name AS session_name,
    t.path AS path,
    sum(t.n_sessions) AS sessions,
    sum(t.n_calls) AS calls,
    sum(t.n_errors) AS errors,
    sum(t.n_input) AS input_tokens,
    sum(t.n_output) AS output_tokens,
    sum(t.n_own) AS own_calls,
    if(sum(t.n_own_costed) > 0 OR own_calls = 0, sum(t.own_cost), NULL) AS own_cost_usd,
    if(sum(t.n_costed) > 0 OR calls = 0, sum(t.cost), NULL) AS cost_usd,
    ifNotFinite(max(t.costs[1]), NULL) AS cost_p50_usd,
    ifNotFinite(max(t.costs[2]), NULL) AS cost_p95_usd,
    sum(t.n_unpriced) AS unpriced_calls,
    sum(t.ns) / 1e9 AS llm_seconds,
    if(calls = 0, NULL, max(t.latencies[1])) AS latency_p50_seconds,
    if(calls = 0, NULL, max(t.latencies[2])) AS latency_p95_seconds,
    max(t.walls[1]) / 1e9 AS wall_p50_seconds,
    max(t.walls[2]) / 1e9 AS wall_p95_seconds
FROM
(
    SELECT
        u.session_name AS session_name,
        u.path AS path,
        toUInt64(0) AS n_sessions,
        sum(u.calls) AS n_calls,
        sum(u.errors) AS n_errors,
        sum(u.input_tokens) AS n_input,
        sum(u.output_tokens) AS n_output,
        sum(u.own_calls) AS n_own,
        sum(u.own_costed_calls) AS n_own_costed,
        sum(u.own_cost_usd) AS own_cost,
        sum(u.costed_calls) AS n_costed,
        sum(u.cost_usd) AS cost,
        sum(u.unpriced_calls) AS n_unpriced,
        sum(u.llm_ns) AS ns,
        quantilesExactInclusiveArray(0.5, 0.95)(u.latencies) AS latencies,
        CAST([], 'Array(Float64)') AS costs,
        CAST([], 'Array(Float64)') AS walls
    FROM
    (
        SELECT a.* FROM path_rollup AS a WHERE a.session_name != ''
        UNION ALL
        SELECT r.* REPLACE (n.session_name AS session_name)
        FROM path_rollup AS r
        INNER JOIN
            (
                SELECT s.session_id AS session_id, s.named.2 AS session_name
                FROM session_rollup AS s FINAL
                WHERE s.session_id IN (SELECT o.session_id FROM path_rollup AS o WHERE o.session_name = '' AND o.path = '/')
            ) AS n ON n.session_id = r.session_id
            WHERE r.session_name = ''
    ) AS u
    GROUP BY session_name, path
    UNION ALL
    SELECT
        v.session_name AS session_name,
        v.path AS path,
        count() AS n_sessions,
        toUInt64(0) AS n_calls,
        toUInt64(0) AS n_errors,
        toUInt64(0) AS n_input,
        toUInt64(0) AS n_output,
        toUInt64(0) AS n_own,
        toUInt64(0) AS n_own_costed,
        toDecimal128(0, 12) AS own_cost,
        toUInt64(0) AS n_costed,
        toDecimal128(0, 12) AS cost,
        toUInt64(0) AS n_unpriced,
        toUInt64(0) AS ns,
        CAST([], 'Array(Float32)') AS latencies,
        quantilesExactInclusiveIf(0.5, 0.95)(toFloat64(v.session_cost), v.known) AS costs,
        quantilesExactInclusive(0.5, 0.95)(v.wall_ns) AS walls
    FROM
    (
        SELECT
            f.session_name AS session_name,
            f.path AS path,
            f.cost_usd AS session_cost,
            f.costed_calls > 0 OR f.calls = 0 AS known,
            toUnixTimestamp64Nano(f.ended_at) - toUnixTimestamp64Nano(f.started_at) AS wall_ns
        FROM path_rollup AS f FINAL
        WHERE f.session_name != '' AND f.session_key NOT IN (SELECT o.session_key FROM path_rollup AS o WHERE o.session_name = '' AND o.path = '/')
        UNION ALL
        SELECT
            w.session_name AS session_name,
            w.path AS path,
            sum(w.cost_usd) AS session_cost,
            sum(w.costed_calls) > 0 OR sum(w.calls) = 0 AS known,
            toUnixTimestamp64Nano(max(w.ended_at)) - toUnixTimestamp64Nano(min(w.started_at)) AS wall_ns
        FROM
        (
            SELECT b.*, b.session_key AS session_key
            FROM path_rollup AS b
            WHERE b.session_name != '' AND b.session_key IN (SELECT o.session_key FROM path_rollup AS o WHERE o.session_name = '' AND o.path = '/')
            UNION ALL
            SELECT r.* REPLACE (n.session_name AS session_name), r.session_key AS session_key
            FROM path_rollup AS r
            INNER JOIN
            (
                SELECT s.session_id AS session_id, s.named.2 AS session_name
                FROM session_rollup AS s FINAL
                WHERE s.session_id IN (SELECT o.session_id FROM path_rollup AS o WHERE o.session_name = '' AND o.path = '/')
            ) AS n ON n.session_id = r.session_id
            WHERE r.session_name = ''
        ) AS w
        GROUP BY session_name, path, w.session_key
    ) AS v
    GROUP BY session_name, path
) AS t
GROUP BY session_name, path;
