-- Which of the open calls count, and in which session. What tells them apart is what lies inside what, so their whole
-- traces are read:
-- 1. A span around other LLM spans is a wrapper, unless it alone has the usage: then those inside are not counted.
-- 2. Of spans with one response id that overlap in time one counts: as often as one instrumentation has it.
-- 3. So it is with spans of the same input beside each other or below each other, where a response id is missing. To have
--    no usage, as where the provider refused, is the same too.
-- Where several would do, ours comes first, then the one with usage, with the most details of it, with a price, the
-- innermost.
CREATE OR REPLACE VIEW call_decisions /*on_cluster*/
(
    trace_id String COMMENT 'trace of the call',
    span_id String COMMENT 'span of the call',
    session_id String COMMENT 'session of the call: its own, else that which the nearest span above names, else its conversation, else that of the nearest span above, else that of its trace',
    session_source LowCardinality(String) COMMENT 'own, conversation, parent, trace; empty without a session',
    path String COMMENT 'path of the call, found in the same way',
    reason LowCardinality(String) COMMENT 'why the call is not counted; empty if it is',
    superseded_by String COMMENT 'span that accounts for the exchange'
)
COMMENT 'One row per LLM span of another instrumentation, or without a session, that arrived lately: whether it counts, and in which session. What settling applies.'
AS
WITH
    waiting AS
    (
        SELECT * REPLACE (if(session_source IN ('parent', 'trace'), '', session_id) AS session_id)
        FROM open_calls FINAL
        WHERE trace_id IN
        (
            SELECT o.trace_id
            FROM open_calls AS o
            WHERE o.arrived_at >= (SELECT max(s.settled_at) - toIntervalMinute(10) FROM settlements AS s)
                OR (o.session_id = '' AND o.arrived_at >= (SELECT max(s.settled_at) - toIntervalHour(1) FROM settlements AS s))
        )
    ),
    known AS
    (
        SELECT
            false AS is_sure, trace_id, span_id, service, scope, response_id, started_at, duration_ns, request_model, response_model,
            input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, cost_usd, status, is_log, session_id, session_source, path
        FROM waiting
        UNION ALL
        SELECT
            true AS is_sure, trace_id, span_id, service, scope, response_id, started_at, duration_ns, request_model, response_model,
            input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, cost_usd, status, false AS is_log, session_id, session_source, path
        FROM llm_calls
        WHERE trace_id IN (SELECT trace_id FROM waiting) AND (trace_id, span_id) NOT IN (SELECT trace_id, span_id FROM waiting)
    ),
    -- Per trace, arrays over its spans: `up` is the index of the parent, `near` that of the nearest LLM span above an LLM
    -- span, `above` that of the nearest span above with a session, `naming` that of the nearest above which names it: a
    -- conversation alone, which frameworks make up for each run, gives way to that. The rounds double how far is seen: 64
    -- spans up.
    traces AS
    (
        SELECT
            *,
            arrayMap(
                (x, is_call) -> toUInt16(is_call * calls[x] * x),
                arrayFold((at, turn) -> arrayMap(x -> if(calls[x] > 0, x, at[x]), at), range(6), up),
                calls
            ) AS near,
            arrayFold((at, turn) -> arrayMap(x -> if(sessions[x] != '', x, at[x]), at), range(6), up) AS above,
            arrayFold((at, turn) -> arrayMap(x -> if(named[x] > 0, x, at[x]), at), range(6), up) AS naming
        FROM
        (
            SELECT
                *,
                arrayMap(
                    x -> toUInt16(if(x <= length(ids), x, 0)),
                    arraySlice(arrayEnumerateDense(arrayConcat(ids, parents)), length(ids) + 1)
                ) AS up
            FROM
            (
                SELECT
                    s.TraceId AS trace_id,
                    groupArray(10000)(s.SpanId) AS ids,
                    groupArray(10000)(s.ParentSpanId) AS parents,
                    groupArray(10000)(s.SessionId) AS sessions,
                    groupArray(10000)(s.SessionPath) AS paths,
                    groupArray(10000)(toUInt8(s.is_named)) AS named,
                    groupArray(10000)(toUInt8(k.span_id != '')) AS calls,
                    groupArray(10000)(k.has_usage) AS usages,
                    groupArray(10000)(k.is_sure) AS sures,
                    argMinIf(s.SessionId, s.Timestamp, s.SessionId != '') AS trace_session
                FROM
                (
                    SELECT
                        t.TraceId, t.SpanId, t.ParentSpanId, t.SessionId, t.SessionPath, t.Timestamp,
                        hasAny(mapKeys(t.SpanAttributes), (SELECT groupArray(attribute) FROM attribute_names WHERE field = 'session')) AS is_named
                    FROM otel_traces AS t
                    WHERE t.TraceId IN (SELECT trace_id FROM waiting)
                    LIMIT 1 BY t.TraceId, t.SpanId
                ) AS s
                LEFT ANY JOIN
                (
                    SELECT trace_id, span_id, is_sure, (input_tokens IS NOT NULL) OR (output_tokens IS NOT NULL) AS has_usage
                    FROM known
                ) AS k ON k.trace_id = s.TraceId AND k.span_id = s.SpanId
                GROUP BY s.TraceId
            )
        )
    ),
    placed AS
    (
        SELECT
            trace_id,
            ids[at] AS span_id,
            sessions[above[at]] AS above_session,
            paths[above[at]] AS above_path,
            sessions[naming[at]] AS named_session,
            paths[naming[at]] AS named_path,
            trace_session,
            parents[top[at]] AS anchor,
            has(near, at) AND (has(around_usage, at) OR has(around_sure, at) OR NOT usages[at]) AS is_wrapper,
            ids[indexOf(near, at)] AS inner_id,
            ids[if(
                usages[at],
                0,
                arrayFirst(x -> x > 0 AND usages[x] AND NOT has(around_usage, x) AND NOT has(around_sure, x), [near[at], near2[at]])
            )] AS inside_id
        FROM
        (
            SELECT
                *,
                arrayConcat(arrayFilter((x, usage) -> usage, near, usages), arrayFilter((x, usage) -> usage, near2, usages)) AS around_usage,
                arrayConcat(arrayFilter((x, sure) -> sure, near, sures), arrayFilter((x, sure) -> sure, near2, sures)) AS around_sure,
                arrayFold((at, turn) -> arrayMap(x -> at[x], at), range(3), arrayMap((x, i) -> if(x = 0, i, toUInt32(x)), near, arrayEnumerate(near))) AS top
            FROM
            (
                SELECT *, arrayMap(x -> near[x], near) AS near2
                FROM traces
            )
        )
        ARRAY JOIN arrayFilter((i, is_call) -> is_call > 0, arrayEnumerate(calls), calls) AS at
    ),
    described AS
    (
        SELECT
            k.*,
            addNanoseconds(k.started_at, k.duration_ns) AS ended_at,
            if(k.response_model != '', k.response_model, k.request_model) AS model,
            (k.input_tokens IS NOT NULL) OR (k.output_tokens IS NOT NULL) AS has_usage,
            -- Some leave reasoning out of the output, some add the first event of a stream to it: the input is what they share.
            ifNull(k.input_tokens, 0) AS tokens,
            (k.cached_input_tokens IS NOT NULL) + (k.cache_write_tokens IS NOT NULL) + (k.reasoning_tokens IS NOT NULL) AS details,
            p.above_session AS above_session,
            p.above_path AS above_path,
            if(k.session_source = 'own', '', p.named_session) AS named_session,
            p.named_path AS named_path,
            p.trace_session AS trace_session,
            -- In the same trace, or at the top of their traces.
            if(p.anchor != '', (k.trace_id, ''), ('', toString(k.service))) AS place,
            p.anchor AS anchor,
            p.is_wrapper AND NOT k.is_sure AS is_wrapper,
            p.inner_id AS inner_id,
            if(k.is_sure OR k.status = 'error', '', p.inside_id) AS inside_id,
            is_wrapper OR inside_id != '' AS is_nested
        FROM known AS k
        INNER JOIN placed AS p ON p.trace_id = k.trace_id AND p.span_id = k.span_id
    ),
    by_response AS
    (
        SELECT
            *,
            row_number() OVER best AS rank,
            first_value(span_id) OVER best AS response_winner,
            response_id != '' AND NOT is_sure AND NOT is_nested AND rank > 1 AS same_response
        FROM
        (
            SELECT *, row_number() OVER (PARTITION BY service, response_id, is_nested, island, scope ORDER BY started_at, span_id) AS turn
            FROM
            (
                SELECT
                    *,
                    sum(apart) OVER (PARTITION BY service, response_id, is_nested ORDER BY started_at, span_id ROWS UNBOUNDED PRECEDING) AS island
                FROM
                (
                    SELECT
                        *,
                        started_at > addMilliseconds(max(ended_at) OVER (
                            PARTITION BY service, response_id, is_nested ORDER BY started_at, span_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                        ), 10) AS apart
                    FROM described
                )
            )
        )
        WINDOW best AS (
            PARTITION BY service, response_id, is_nested, island, turn
            ORDER BY is_sure DESC, has_usage DESC, details DESC, cost_usd IS NOT NULL DESC, started_at DESC, span_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        )
    ),
    by_usage AS
    (
        SELECT
            *,
            row_number() OVER best AS usage_rank,
            first_value(span_id) OVER best AS usage_winner,
            first_value(scope) OVER best AS winner_scope,
            first_value(anchor) OVER best AS winner_anchor,
            first_value(started_at) OVER best AS winner_start,
            first_value(ended_at) OVER best AS winner_end,
            first_value(response_id) OVER best AS winner_response,
            first_value(model) OVER best AS winner_model,
            first_value(request_model) OVER best AS winner_request,
            max(is_log) OVER (PARTITION BY place, anchor, scope, request_model) AS has_log,
            -- A framework's span that is in nobody's context lies beside the call, below its own chain: then one of the
            -- two has to be within the other's time.
            anchor = winner_anchor
                OR (winner_start >= addMilliseconds(started_at, -10) AND winner_end <= addMilliseconds(ended_at, 10))
                OR (started_at >= addMilliseconds(winner_start, -10) AND ended_at <= addMilliseconds(winner_end, 10)) AS is_beside
        FROM
        (
            SELECT *, row_number() OVER (PARTITION BY place, is_out, has_usage, tokens, usage_island, scope ORDER BY started_at, span_id) AS usage_turn
            FROM
            (
                SELECT
                    *,
                    sum(usage_apart) OVER (PARTITION BY place, is_out, has_usage, tokens ORDER BY started_at, span_id ROWS UNBOUNDED PRECEDING) AS usage_island
                FROM
                (
                    SELECT
                        *,
                        is_nested OR same_response AS is_out,
                        started_at > addMilliseconds(max(ended_at) OVER (
                            PARTITION BY place, is_out, has_usage, tokens ORDER BY started_at, span_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                        ), 10) AS usage_apart
                    FROM by_response
                )
            )
        )
        WINDOW best AS (
            PARTITION BY place, is_out, has_usage, tokens, usage_island, usage_turn
            ORDER BY is_sure DESC, details DESC, response_id != '' DESC, started_at DESC, span_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        )
    )
SELECT trace_id, span_id, session_id, session_source, path, reason, superseded_by
FROM
(
    SELECT
        trace_id,
        span_id,
        multiIf(named_session != '', named_session, by_usage.session_id != '', by_usage.session_id, above_session != '', above_session, trace_session) AS session_id,
        multiIf(named_session != '', 'parent', by_usage.session_id != '', by_usage.session_source, above_session != '', 'parent', trace_session != '', 'trace', '') AS session_source,
        multiIf(named_session != '', named_path, by_usage.session_id != '', by_usage.path, above_session != '', above_path, trace_session != '', '/', '') AS path,
        multiIf(
            same_response, 'same response id',
            is_wrapper, 'wrapper',
            inside_id != '', 'nested',
            is_out OR usage_rank = 1, '',
            winner_scope != scope AND is_beside AND (response_id = '' OR winner_response = '')
                AND (model = winner_model OR startsWith(winner_model, request_model) OR startsWith(model, winner_request)), 'same usage',
            ''
        ) AS found_reason,
        -- Logfire's span of a stream has no usage; the log beside it has.
        if(found_reason = '' AND NOT has_usage AND NOT is_log AND has_log AND startsWith(scope, 'logfire'), 'logged apart', found_reason) AS reason,
        multiIf(reason = 'same response id', response_winner, reason = 'wrapper', inner_id, reason = 'nested', inside_id, reason = 'same usage', usage_winner, '') AS superseded_by
    FROM by_usage
    WHERE NOT is_sure
);
