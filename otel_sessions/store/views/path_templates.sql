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
-- FINAL merges what is left to merge, which is cheap where ids are ordered by time. Sessions with spans that carry no
-- name (their row at / says so) are summed by hand: those spans count under the name that others gave to the session.
SELECT
    p.session_name AS session_name,
    p.path AS path,
    count() AS sessions,
    sum(p.all_calls) AS calls,
    sum(p.all_errors) AS errors,
    sum(p.all_input_tokens) AS input_tokens,
    sum(p.all_output_tokens) AS output_tokens,
    sum(p.at_path) AS own_calls,
    if(sum(p.costed_at_path) > 0 OR own_calls = 0, sum(p.cost_at_path), NULL) AS own_cost_usd,
    sumOrNullIf(p.all_cost, p.costed > 0 OR p.all_calls = 0) AS cost_usd,
    quantilesExactInclusiveIf(0.5, 0.95)(toFloat64(p.all_cost), p.costed > 0 OR p.all_calls = 0) AS costs,
    ifNotFinite(costs[1], NULL) AS cost_p50_usd,
    ifNotFinite(costs[2], NULL) AS cost_p95_usd,
    sum(p.unpriced) AS unpriced_calls,
    sum(p.all_llm_ns) / 1e9 AS llm_seconds,
    quantilesExactInclusiveArray(0.5, 0.95)(p.all_latencies) AS latencies,
    ifNotFinite(latencies[1], NULL) AS latency_p50_seconds,
    ifNotFinite(latencies[2], NULL) AS latency_p95_seconds,
    quantilesExactInclusive(0.5, 0.95)((toUnixTimestamp64Nano(p.last_end) - toUnixTimestamp64Nano(p.first_start)) / 1e9) AS walls,
    walls[1] AS wall_p50_seconds,
    walls[2] AS wall_p95_seconds
FROM
(
    SELECT
        a.session_name AS session_name,
        a.path AS path,
        a.started_at AS first_start,
        a.ended_at AS last_end,
        a.own_calls AS at_path,
        a.own_cost_usd AS cost_at_path,
        a.own_costed_calls AS costed_at_path,
        a.calls AS all_calls,
        a.errors AS all_errors,
        a.llm_ns AS all_llm_ns,
        a.input_tokens AS all_input_tokens,
        a.output_tokens AS all_output_tokens,
        a.cost_usd AS all_cost,
        a.costed_calls AS costed,
        a.unpriced_calls AS unpriced,
        a.latencies AS all_latencies
    FROM path_rollup AS a FINAL
    WHERE a.session_name != '' AND a.session_key NOT IN (SELECT o.session_key FROM path_rollup AS o WHERE o.session_name = '' AND o.path = '/')
    UNION ALL
    SELECT
        u.session_name AS session_name,
        u.path AS path,
        min(u.started_at) AS first_start,
        max(u.ended_at) AS last_end,
        sum(u.own_calls) AS at_path,
        sum(u.own_cost_usd) AS cost_at_path,
        sum(u.own_costed_calls) AS costed_at_path,
        sum(u.calls) AS all_calls,
        sum(u.errors) AS all_errors,
        sum(u.llm_ns) AS all_llm_ns,
        sum(u.input_tokens) AS all_input_tokens,
        sum(u.output_tokens) AS all_output_tokens,
        sum(u.cost_usd) AS all_cost,
        sum(u.costed_calls) AS costed,
        sum(u.unpriced_calls) AS unpriced,
        groupArrayArray(u.latencies) AS all_latencies
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
    ) AS u
    GROUP BY session_name, path, u.session_key
) AS p
GROUP BY session_name, path;
