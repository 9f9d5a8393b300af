-- Few columns choose the sessions; the rest is read for these alone.
SELECT session_id
FROM
(
    SELECT
        r.session_id AS session_id,
        r.started_at AS started_at,
        toUnixTimestamp64Nano(r.ended_at) - toUnixTimestamp64Nano(r.started_at) AS wall_seconds,
        r.llm_ns AS llm_seconds,
        r.calls AS calls,
        r.errors AS errors,
        r.input_tokens + r.output_tokens AS total_tokens,
        if(r.costed_calls > 0 OR r.unbilled_calls = r.calls, r.cost_usd, NULL) AS cost_usd
    FROM session_rollup AS r FINAL
    WHERE r.started_at >= {since:DateTime64(9, 'UTC')}
        AND r.started_at < {until:DateTime64(9, 'UTC')}
        AND ({name:Nullable(String)} IS NULL OR r.named.2 = {name:Nullable(String)})
        AND ({user_id:Nullable(String)} IS NULL OR has(r.user_ids, {user_id:Nullable(String)}))
        AND ({status:Nullable(String)} IS NULL OR (r.errors > 0) = ({status:Nullable(String)} = 'error'))
)
ORDER BY {order_by:Identifier} DESC NULLS LAST, started_at DESC, session_id
LIMIT {limit:UInt64}
