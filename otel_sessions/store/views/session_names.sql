CREATE OR REPLACE VIEW session_names /*on_cluster*/
(
    session_name String COMMENT 'name of the sessions; empty for those without a name',
    sessions UInt64 COMMENT 'sessions of this name',
    calls UInt64 COMMENT 'LLM calls in them',
    errors UInt64 COMMENT 'of these, failed',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'sum over the calls with known cost; NULL if no call''s cost is known',
    cost_p50_usd Nullable(Float64) COMMENT 'median cost of a session, over the sessions with known cost',
    cost_p95_usd Nullable(Float64) COMMENT '95th percentile of the cost of a session',
    cost_max_usd Nullable(Decimal(38, 12)) COMMENT 'cost of the most expensive session',
    unpriced_calls UInt64 COMMENT 'calls with known usage and no price',
    wall_p50_seconds Float64 COMMENT 'median of wall_seconds of the sessions',
    wall_p95_seconds Float64 COMMENT '95th percentile of wall_seconds of the sessions',
    first_started_at DateTime64(9, 'UTC') COMMENT 'start of the first session',
    last_started_at DateTime64(9, 'UTC') COMMENT 'start of the last session'
)
COMMENT 'One row per session name.'
AS
SELECT
    r.named.2 AS session_name,
    count() AS sessions,
    sum(r.calls) AS calls,
    sum(r.errors) AS errors,
    if(sum(r.costed_calls) > 0 OR sum(r.unbilled_calls) = calls, sum(r.cost_usd), NULL) AS cost_usd,
    quantileOrNullIf(0.5)(toFloat64(r.cost_usd), r.costed_calls > 0 OR r.unbilled_calls = r.calls) AS cost_p50_usd,
    quantileOrNullIf(0.95)(toFloat64(r.cost_usd), r.costed_calls > 0 OR r.unbilled_calls = r.calls) AS cost_p95_usd,
    maxOrNullIf(r.cost_usd, r.costed_calls > 0 OR r.unbilled_calls = r.calls) AS cost_max_usd,
    sum(r.unpriced_calls) AS unpriced_calls,
    quantile(0.5)((toUnixTimestamp64Nano(r.ended_at) - toUnixTimestamp64Nano(r.started_at)) / 1e9) AS wall_p50_seconds,
    quantile(0.95)((toUnixTimestamp64Nano(r.ended_at) - toUnixTimestamp64Nano(r.started_at)) / 1e9) AS wall_p95_seconds,
    min(r.started_at) AS first_started_at,
    max(r.started_at) AS last_started_at
FROM session_rollup AS r FINAL
GROUP BY session_name;
