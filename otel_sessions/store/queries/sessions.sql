-- The cheap columns choose the sessions; what takes time (percentiles, arrays) is computed for these alone.
SELECT *
FROM sessions
WHERE session_id IN
(
    SELECT session_id
    FROM sessions
    WHERE started_at >= {since:DateTime64(9, 'UTC')}
        AND started_at < {until:DateTime64(9, 'UTC')}
        AND ({name:Nullable(String)} IS NULL OR session_name = {name:Nullable(String)})
        AND ({user_id:Nullable(String)} IS NULL OR has(user_ids, {user_id:Nullable(String)}))
        AND ({status:Nullable(String)} IS NULL OR (errors > 0) = ({status:Nullable(String)} = 'error'))
    ORDER BY
        multiIf(
            {order_by:String} = 'cost_usd', toFloat64(cost_usd),
            {order_by:String} = 'wall_seconds', wall_seconds,
            {order_by:String} = 'llm_seconds', llm_seconds,
            {order_by:String} = 'calls', toFloat64(calls),
            {order_by:String} = 'errors', toFloat64(errors),
            {order_by:String} = 'total_tokens', toFloat64(total_tokens),
            NULL
        ) DESC NULLS LAST,
        started_at DESC,
        session_id
    LIMIT {limit:UInt64}
)
ORDER BY
    multiIf(
        {order_by:String} = 'cost_usd', toFloat64(cost_usd),
        {order_by:String} = 'wall_seconds', wall_seconds,
        {order_by:String} = 'llm_seconds', llm_seconds,
        {order_by:String} = 'calls', toFloat64(calls),
        {order_by:String} = 'errors', toFloat64(errors),
        {order_by:String} = 'total_tokens', toFloat64(total_tokens),
        NULL
    ) DESC NULLS LAST,
    started_at DESC,
    session_id
