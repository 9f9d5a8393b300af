-- Which of the open calls count, and in which session. What tells them apart is what lies inside what, so their whole
-- traces are read:
-- 1. A span around other LLM spans is a wrapper, unless it alone has the usage: then those inside are not counted. One
--    that has usage is none of what a tool or an agent inside it called.
-- 2. Of spans with one response id that overlap in time one counts: as often as one instrumentation has it.
-- 3. So it is with spans of the same input below one span of the program, where a response id is missing. To have no
--    usage, as where the provider refused, is the same too.
-- 4. And with a span that has no usage, or leaves out what came from the cache, beside one at the same time that has all.
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
            false AS is_sure, trace_id, span_id, service, scope, response_id, started_at, duration_ns, provider, request_model, response_model,
            input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, cost_usd, status, is_log, session_id, session_source, path
        FROM waiting
        UNION ALL
        SELECT
            true AS is_sure, trace_id, span_id, service, scope, response_id, started_at, duration_ns, provider, request_model, response_model,
            input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, cost_usd, status, false AS is_log, session_id, session_source, path
        FROM llm_calls
        WHERE trace_id IN (SELECT trace_id FROM waiting) AND (trace_id, span_id) NOT IN (SELECT trace_id, span_id FROM waiting)
    ),
    -- Per trace, arrays over its spans: `up` is the index of the parent, `near` that of the nearest LLM span above an LLM
    -- span (none, if that has usage and a tool or an agent lies between), `above` that of the nearest span above with a
    -- session, `naming` that of the nearest above which names it: a conversation alone, which frameworks make up for each
    -- run, gives way to that. `top` is the outermost of those around a span that instrumentations wrote: what is above that
    -- is the program's own, and there all of them meet, also those that leave their spans in nobody's context. The rounds
    -- double how far is seen: 64 spans up.
    traces AS
    (
        SELECT
            *,
            arrayMap((x, y, is_call) -> toUInt16(is_call * calls[x] * x * (x = y OR NOT usages[x])), nearest, nearest_wall, calls) AS near,
            arrayFold(
                (at, turn) -> arrayMap(x -> at[x], at),
                range(6),
                arrayMap(
                    (x, n, i) -> if(x > 0 AND (calls[n] OR marked[x] OR (NOT steps[x] AND has(scopes_of_calls, scopes[x]))), x, toUInt16(i)),
                    up, nearest, arrayEnumerate(up)
                )
            ) AS top,
            arrayFold((at, turn) -> arrayMap(x -> if(sessions[x] != '', x, at[x]), at), range(6), up) AS above,
            arrayFold((at, turn) -> arrayMap(x -> if(named[x] > 0, x, at[x]), at), range(6), up) AS naming
        FROM
        (
            SELECT
                *,
                arrayMap(
                    x -> toUInt16(if(x <= length(ids), x, 0)),
                    arraySlice(arrayEnumerateDense(arrayConcat(ids, parents)), length(ids) + 1)
                ) AS up,
                arrayFold((at, turn) -> arrayMap(x -> if(calls[x] > 0, x, at[x]), at), range(6), up) AS nearest,
                arrayFold((at, turn) -> arrayMap(x -> if(calls[x] > 0 OR walls[x], x, at[x]), at), range(6), up) AS nearest_wall
            FROM
            (
                SELECT
                    s.TraceId AS trace_id,
                    groupArray(10000)(s.SpanId) AS ids,
                    groupArray(10000)(s.ParentSpanId) AS parents,
                    groupArray(10000)(s.SessionId) AS sessions,
                    groupArray(10000)(s.SessionPath) AS paths,
                    groupArray(10000)(toUInt8(s.is_named)) AS named,
                    groupArray(10000)(s.ScopeName) AS scopes,
                    groupUniqArrayIf(s.ScopeName, k.span_id != '') AS scopes_of_calls,
                    groupArray(10000)(toUInt8(s.is_step)) AS steps,
                    groupArray(10000)(toUInt8(s.is_marked)) AS marked,
                    groupArray(10000)(toUInt8(s.is_wall)) AS walls,
                    groupArray(10000)(toUInt8(k.span_id != '')) AS calls,
                    groupArray(10000)(k.has_usage) AS usages,
                    groupArray(10000)(k.is_sure) AS sures,
                    argMinIf(s.SessionId, s.Timestamp, s.SessionId != '') AS trace_session
                FROM
                (
                    SELECT
                        t.TraceId, t.SpanId, t.ParentSpanId, t.SessionId, t.SessionPath, t.Timestamp, t.ScopeName,
                        t.SpanAttributes['otel_sessions.step'] = 'true' AS is_step,
                        t.SpanAttributes['otel_sessions.billable'] = 'false' AS is_marked,
                        hasAny(['execute_tool', 'invoke_agent', 'TOOL', 'AGENT', 'tool', 'agent'], [
                            t.SpanAttributes['gen_ai.operation.name'], t.SpanAttributes['openinference.span.kind'],
                            t.SpanAttributes['traceloop.span.kind'], t.SpanAttributes['langfuse.observation.type']
                        ]) OR mapContains(t.SpanAttributes, 'gen_ai.tool.name') AS is_wall,
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
            up[top[at]] = 0 OR steps[up[top[at]]] AS is_at_step,
            has(near, at) AND (has(around_usage, at) OR has(around_sure, at) OR NOT usages[at]) AS is_wrapper,
            arrayMin(arrayFilter((id, n) -> n = at, ids, near)) AS inner_id,
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
                arrayConcat(arrayFilter((x, sure) -> sure, near, sures), arrayFilter((x, sure) -> sure, near2, sures)) AS around_sure
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
            k.trace_id AS trace_id,
            k.span_id AS span_id,
            k.is_sure AS is_sure,
            k.scope AS scope,
            k.response_id AS response_id,
            k.started_at AS started_at,
            addNanoseconds(k.started_at, k.duration_ns) AS ended_at,
            k.provider AS provider,
            k.request_model AS request_model,
            if(k.response_model != '', k.response_model, k.request_model) AS model,
            k.status = 'error' AS is_error,
            k.is_log AS is_log,
            (k.input_tokens IS NOT NULL) OR (k.output_tokens IS NOT NULL) AS has_usage,
            -- Some leave reasoning out of the output, some add the first event of a stream to it: the input is what they share.
            ifNull(k.input_tokens, 0) AS tokens,
            ifNull(k.cached_input_tokens, 0) + ifNull(k.cache_write_tokens, 0) AS cache_tokens,
            if(cache_tokens > 0, toInt64(tokens - cache_tokens), -1) AS uncached_tokens,
            (k.cached_input_tokens IS NOT NULL) + (k.cache_write_tokens IS NOT NULL) + (k.reasoning_tokens IS NOT NULL) AS details,
            k.cost_usd IS NOT NULL AS has_cost,
            multiIf(is_named, p.named_session, k.session_id != '', k.session_id, p.above_session != '', p.above_session, p.trace_session) AS session_id,
            multiIf(is_named, 'parent', k.session_id != '', toString(k.session_source), p.above_session != '', 'parent', p.trace_session != '', 'trace', '') AS session_source,
            multiIf(is_named, p.named_path, k.session_id != '', k.path, p.above_session != '', p.above_path, p.trace_session != '', '/', '') AS path,
            k.session_source != 'own' AND p.named_session != '' AS is_named,
            -- Below the same span, or at the top of their traces. Below a step it is that of its own path (docs/paths.md): a
            -- step within a chain is above the call, and not above the chain's span of it.
            multiIf(
                p.anchor = '', cityHash64(k.service),
                p.is_at_step AND k.session_source = 'own' AND k.path NOT IN ('', '/') AND k.trace_id = lower(substring(hex(SHA256(k.session_id)), 1, 32)),
                    cityHash64(k.trace_id, lower(substring(hex(SHA256(concat(k.session_id, '\n', k.path))), 1, 16))),
                cityHash64(k.trace_id, p.anchor)
            ) AS place,
            p.is_wrapper AND NOT k.is_sure AS is_wrapper,
            p.inner_id AS inner_id,
            if(k.is_sure OR is_error, '', p.inside_id) AS inside_id,
            is_wrapper OR inside_id != '' AS is_nested,
            cityHash64(k.service, k.response_id, is_nested) AS response
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
            SELECT *, row_number() OVER (PARTITION BY response, island, scope ORDER BY started_at, span_id) AS turn
            FROM
            (
                SELECT
                    *,
                    sum(apart) OVER (PARTITION BY response ORDER BY started_at, span_id ROWS UNBOUNDED PRECEDING) AS island
                FROM
                (
                    SELECT
                        *,
                        started_at > addMilliseconds(max(ended_at) OVER (
                            PARTITION BY response ORDER BY started_at, span_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                        ), 10) AS apart
                    FROM described
                )
            )
        )
        WINDOW best AS (
            PARTITION BY response, island, turn
            ORDER BY is_sure DESC, has_usage DESC, details DESC, has_cost DESC, started_at DESC, span_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        )
    ),
    by_usage AS
    (
        SELECT
            *,
            row_number() OVER best AS usage_rank,
            first_value(span_id) OVER best AS same_span,
            first_value(response_id) OVER best AS same_response_id,
            first_value(model) OVER best AS same_model,
            first_value(request_model) OVER best AS same_request,
            first_value(provider) OVER best AS same_provider,
            first_value(span_id) OVER beside AS beside_span,
            first_value(response_id) OVER beside AS beside_response_id,
            first_value(model) OVER beside AS beside_model,
            first_value(request_model) OVER beside AS beside_request,
            first_value(provider) OVER beside AS beside_provider,
            first_value(has_usage) OVER beside AS beside_usage,
            first_value(uncached_tokens) OVER beside AS beside_uncached,
            first_value(started_at) OVER beside AS beside_start,
            first_value(ended_at) OVER beside AS beside_end
        FROM
        (
            SELECT
                *,
                row_number() OVER (PARTITION BY place, is_out, usage_island, has_usage, tokens, scope ORDER BY started_at, span_id) AS usage_turn,
                row_number() OVER (PARTITION BY place, is_out, usage_island, is_error, scope ORDER BY started_at, span_id) AS time_turn
            FROM
            (
                SELECT
                    *,
                    sum(usage_apart) OVER (PARTITION BY place, is_out ORDER BY started_at, span_id ROWS UNBOUNDED PRECEDING) AS usage_island
                FROM
                (
                    SELECT
                        *,
                        is_nested OR same_response AS is_out,
                        groupUniqArrayIf(request_model, is_log) OVER (
                            PARTITION BY place, is_out ORDER BY started_at, span_id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
                        ) AS logged_models,
                        -- Logfire's log begins when the stream is read, which need not be at once.
                        started_at > addMilliseconds(max(ended_at) OVER (
                            PARTITION BY place, is_out ORDER BY started_at, span_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                        ), if(is_log, 1000, 10)) AS usage_apart
                    FROM by_response
                )
            )
        )
        WINDOW
            best AS (
                PARTITION BY place, is_out, usage_island, has_usage, tokens, usage_turn
                ORDER BY is_sure DESC, details DESC, response_id != '' DESC, is_error DESC, started_at DESC, span_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            ),
            beside AS (
                PARTITION BY place, is_out, usage_island, is_error, time_turn
                ORDER BY is_sure DESC, has_usage DESC, details DESC, response_id != '' DESC, started_at DESC, span_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            )
    )
SELECT
    trace_id,
    span_id,
    session_id,
    session_source,
    path,
    reason,
    multiIf(
        reason = 'same response id', response_winner,
        reason = 'wrapper', inner_id,
        reason = 'nested', inside_id,
        reason = 'same usage', same_span,
        reason = 'same time', beside_span,
        ''
    ) AS superseded_by
FROM
(
    SELECT
        *,
        -- Each level once: what names an expression twice has it planned twice.
        multiIf(
            same_response, 'same response id',
            is_wrapper, 'wrapper',
            inside_id != '', 'nested',
            is_out, '',
            is_beside AND NOT has_usage, 'same time',
            is_same, 'same usage',
            is_beside, 'same time',
            -- Logfire's span of a stream has no usage; the log beside it has.
            NOT has_usage AND NOT is_error AND NOT is_log AND has(logged_models, request_model) AND startsWith(scope, 'logfire'), 'logged apart',
            ''
        ) AS reason
    FROM
    (
        SELECT
            *,
            usage_rank > 1 AND (response_id = '' OR same_response_id = '')
                AND (model = same_model OR position(same_model, request_model) > 0 OR position(model, same_request) > 0)
                AND ((model != '' AND same_model != '') OR provider IN ('', same_provider) OR same_provider = '') AS is_same,
            beside_usage AND (response_id = '' OR beside_response_id = '')
                AND (NOT has_usage OR (details = 0 AND toInt64(tokens) = beside_uncached))
                AND (model = beside_model OR position(beside_model, request_model) > 0 OR position(model, beside_request) > 0)
                AND ((model != '' AND beside_model != '') OR provider IN ('', beside_provider) OR beside_provider = '')
                AND beside_start <= ended_at AND beside_end >= started_at AS is_beside
        FROM by_usage
        WHERE NOT is_sure
    )
);
