-- Which attributes of a span say what, in the order in which they are believed: our own, those that one product writes
-- on purpose, OpenTelemetry's latest, its former ones, frameworks, bare words. Spans that have none beyond the `latest` ones, our own
-- among them, are read the short way. docs/conventions.md is generated from the view.
CREATE OR REPLACE VIEW attribute_names /*on_cluster*/
(
    field String COMMENT 'what the attribute says',
    position UInt16 COMMENT 'order in which the attributes of a field are believed, from 1',
    attribute String COMMENT 'name of the span attribute',
    is_latest Bool COMMENT 'true for our own names and the latest ones of OpenTelemetry'
)
COMMENT 'One row per span attribute that llm_calls reads.'
AS
SELECT
    names.known.1 AS field,
    toUInt16(arrayJoin(arrayEnumerate(names.known.3))) AS position,
    names.known.3[position] AS attribute,
    position <= names.known.2 AS is_latest
FROM
(
    -- Field, how many of its attributes are the latest, its attributes.
    SELECT arrayJoin([
        -- Sessions: the same lists stand in otel_traces, whose columns cannot ask a view.
        ('session', 1, [
            'session.id', 'langfuse.session.id',
            'langfuse.trace.metadata.langfuse_session_id', 'langfuse.observation.metadata.langfuse_session_id',
            'traceloop.association.properties.session_id', 'lmnr.association.properties.session_id',
            'ai.telemetry.metadata.sessionId', 'ai.telemetry.metadata.session_id', 'langsmith.metadata.session_id',
            'mlflow.trace.session', 'gen_ai.session.id', 'gen_ai.agent.session_id', 'coding_agent.session.id',
            'gcp.vertex.agent.session_id', 'langwatch.thread.id'
        ]),
        ('conversation', 1, [
            'gen_ai.conversation.id', 'traceloop.association.properties.thread_id',
            'traceloop.association.properties.conversation_id', 'ai.telemetry.metadata.threadId',
            'langsmith.metadata.thread_id', 'langsmith.metadata.conversation_id', 'wandb.thread_id', 'thread_id'
        ]),
        ('session_name', 1, [
            'session.name', 'langfuse.trace.name', 'langsmith.trace.name', 'traceloop.workflow.name',
            'gen_ai.workflow.name'
        ]),
        ('path', 1, ['session.path']),
        ('user', 1, [
            'user.id', 'langfuse.user.id', 'langfuse.trace.metadata.langfuse_user_id',
            'langfuse.observation.metadata.langfuse_user_id', 'traceloop.association.properties.user_id',
            'traceloop.association.properties.customer_id', 'lmnr.association.properties.user_id',
            'ai.telemetry.metadata.userId', 'langsmith.metadata.user_id', 'mlflow.trace.user', 'enduser.id',
            'langwatch.user.id', 'gen_ai.user', 'gen_ai.request.user', 'llm.user'
        ]),

        -- What the span is. ai.operationId stands before OpenTelemetry's name, which the AI SDK writes on outer spans too,
        -- and LangSmith's kind does, because LangSmith calls prompt templates chat.
        ('step', 1, ['otel_sessions.step']),
        ('billable', 1, ['otel_sessions.billable']),
        ('superseded_by', 1, ['otel_sessions.superseded_by']),
        ('kind_ai_sdk', 0, ['ai.operationId', 'langsmith.span.kind']),
        ('kind', 1, [
            'gen_ai.operation.name', 'langfuse.observation.type', 'openinference.span.kind', 'llm.request.type',
            'traceloop.span.kind', 'lmnr.span.type', 'mlflow.spanType', 'agentops.span.kind', 'gen_ai.request.type',
            'gen_ai.span.kind', 'fi.span.kind', 'langwatch.span.type'
        ]),
        ('not_llm', 0, ['gen_ai.tool.name', 'gen_ai.tool.call.id', 'gen_ai.agent.name', 'agent_name', 'tool.name']),
        ('log', 0, ['logfire.span_type']),
        ('log_seconds', 0, ['duration']),

        -- Who answered.
        ('provider', 1, [
            'gen_ai.provider.name', 'gen_ai.system', 'llm.provider', 'ai.model.provider', 'aisdk.model.provider',
            'mlflow.llm.provider', 'llm.system', 'gen_ai.model.provider'
        ]),
        ('request_model', 1, [
            'gen_ai.request.model', 'langfuse.observation.model.name', 'llm.request.model_name', 'gen_ai.request_model',
            'llm.model_name', 'embedding.model_name', 'ai.model.id', 'aisdk.model.id', 'mlflow.llm.model'
        ]),
        ('response_model', 1, [
            'gen_ai.response.model', 'llm.response.model_name', 'gen_ai.response_model', 'ai.response.model'
        ]),
        ('response_id', 1, ['gen_ai.response.id', 'ai.response.id']),
        ('response_json', 0, ['output.value']),
        ('server_address', 1, ['server.address', 'net.peer.name']),
        ('service_tier', 2, [
            'gen_ai.response.service_tier', 'gen_ai.request.service_tier', 'openai.response.service_tier',
            'openai.request.service_tier', 'gen_ai.openai.request.service_tier', 'anthropic.response.service_tier',
            'anthropic.request.service_tier'
        ]),
        ('speed', 1, ['otel_sessions.response.speed']),
        ('region', 1, ['otel_sessions.response.region']),
        ('batch', 1, ['gen_ai.request.batch']),

        -- How it went.
        ('error_type', 1, ['error.type']),
        ('http_status', 1, ['http.response.status_code', 'http.status_code']),
        ('response_end', 1, ['otel_sessions.response.end']),
        ('streamed', 1, [
            'gen_ai.request.stream', 'gen_ai.request.is_stream', 'gen_ai.request.streaming', 'gen_ai.is_streaming',
            'llm.is_streaming'
        ]),
        ('finish', 1, [
            'gen_ai.response.finish_reasons', 'gen_ai.response.finish_reason', 'anthropic.message.stop_reason',
            'llm.finish_reason', 'gen_ai.completion.0.finish_reason', 'ai.response.finishReason',
            'langfuse.observation.metadata.finish_reason', 'stop_reason'
        ]),
        ('ttft_seconds', 1, [
            'gen_ai.response.time_to_first_chunk', 'gen_ai.server.time_to_first_token',
            'gen_ai.streaming.time_to_first_token', 'gen_ai.client.operation.time_to_first_chunk',
            'gen_ai.latency.time_to_first_token', 'lk.response.ttft', 'metrics.ttfb'
        ]),
        ('ttft_milliseconds', 0, [
            'ai.response.msToFirstChunk', 'ai.stream.msToFirstChunk', 'copilot_chat.time_to_first_token', 'ttft_ms'
        ]),
        ('first_chunk_at', 0, ['langfuse.observation.completion_start_time', 'mastra.completion_start_time']),

        -- Usage.
        ('usage_json', 0, [
            'langfuse.observation.usage_details', 'mlflow.chat.tokenUsage', 'gen_ai.usage.raw',
            'langsmith.usage_metadata', 'langsmith.metadata.usage_metadata'
        ]),
        ('input', 1, [
            'gen_ai.usage.input_tokens', 'gen_ai.usage.prompt_tokens', 'llm.usage.prompt_tokens',
            'llm.token_count.prompt', 'ai.usage.inputTokens', 'ai.usage.promptTokens', 'ai.usage.tokens',
            'gen_ai.response.prompt_tokens', 'input_tokens'
        ]),
        ('output', 1, [
            'gen_ai.usage.output_tokens', 'gen_ai.usage.completion_tokens', 'llm.usage.completion_tokens',
            'llm.token_count.completion', 'ai.usage.outputTokens', 'ai.usage.completionTokens',
            'gen_ai.response.completion_tokens', 'output_tokens'
        ]),
        ('total', 1, [
            'gen_ai.usage.total_tokens', 'llm.usage.total_tokens', 'llm.token_count.total', 'ai.usage.totalTokens'
        ]),
        ('cached', 1, [
            'gen_ai.usage.cache_read.input_tokens', 'gen_ai.usage.cache_read_input_tokens',
            'gen_ai.usage.details.cache_read_tokens', 'gen_ai.usage.details.cache_read_input_tokens',
            'gen_ai.usage.details.cached_tokens', 'gen_ai.usage.input_tokens.cached',
            'llm.usage.cache_read_input_tokens', 'llm.token_count.prompt_details.cache_read',
            'llm.token_count.prompt_details.cache_input', 'ai.usage.inputTokenDetails.cacheReadTokens',
            'ai.usage.cachedInputTokens', 'gen_ai.usage.cached_tokens', 'gen_ai.usage.cached_input_tokens',
            'gen_ai.usage.input_cached_tokens', 'gen_ai.usage.prompt_tokens_details.cached_tokens',
            'gen_ai.usage.input_tokens_details.cached_tokens', 'gen_ai.usage.prompt_token_details.cached_read_tokens',
            'gen_ai.usage.input_token_details.cached_read_tokens', 'cache_read_tokens'
        ]),
        ('cache_write', 2, [
            'gen_ai.usage.cache_creation.input_tokens', 'gen_ai.usage.cache_write.input_tokens',
            'gen_ai.usage.cache_creation_input_tokens', 'gen_ai.usage.details.cache_write_tokens',
            'gen_ai.usage.details.cache_creation_input_tokens', 'gen_ai.usage.input_tokens.cache_write',
            'llm.usage.cache_creation_input_tokens', 'llm.token_count.prompt_details.cache_write',
            'ai.usage.inputTokenDetails.cacheWriteTokens', 'gen_ai.usage.prompt_token_details.cached_write_tokens',
            'gen_ai.usage.input_token_details.cached_write_tokens', 'cache_creation_tokens'
        ]),
        ('cache_write_1h', 1, [
            'otel_sessions.usage.cache_creation_1h.input_tokens',
            'gen_ai.usage.cache_creation.ephemeral_1h_input_tokens', 'gen_ai.usage.cache_creation.input_tokens.ephemeral_1h',
            'gen_ai.usage.cache_creation.ephemeral_1h'
        ]),
        ('reasoning', 1, [
            'gen_ai.usage.reasoning.output_tokens', 'gen_ai.usage.reasoning_tokens',
            'gen_ai.usage.details.reasoning_tokens', 'gen_ai.usage.output_tokens.reasoning',
            'llm.usage.reasoning_tokens', 'llm.token_count.completion_details.reasoning',
            'ai.usage.outputTokenDetails.reasoningTokens', 'ai.usage.reasoningTokens', 'gen_ai.usage.thinking_tokens',
            'gen_ai.usage.completion_token_details.reasoning_tokens', 'gen_ai.usage.output_token_details.reasoning_tokens'
        ]),
        ('audio_input', 1, [
            'gen_ai.usage.audio.input_tokens', 'gen_ai.usage.audio_input_tokens', 'gen_ai.usage.input_audio_tokens',
            'llm.token_count.prompt_details.audio'
        ]),
        ('cached_audio_input', 1, ['gen_ai.usage.audio.cache_read.input_tokens']),
        ('image_input', 1, ['gen_ai.usage.image.input_tokens']),
        ('cached_image_input', 1, ['gen_ai.usage.image.cache_read.input_tokens']),
        ('video_input', 1, ['gen_ai.usage.video.input_tokens']),
        ('audio_output', 1, [
            'gen_ai.usage.audio.output_tokens', 'gen_ai.usage.audio_output_tokens',
            'gen_ai.usage.output_audio_tokens', 'llm.token_count.completion_details.audio'
        ]),
        ('image_output', 1, ['gen_ai.usage.image.output_tokens']),
        ('video_output', 1, ['gen_ai.usage.video.output_tokens']),
        ('web_search', 1, ['otel_sessions.usage.web_searches']),
        -- Sums over the calls below: read only to say what was left out.
        ('aggregated', 0, [
            'gen_ai.aggregated_usage.input_tokens', 'gen_ai.aggregated_usage.output_tokens', 'mlflow.trace.tokenUsage',
            'logfire.metrics'
        ]),

        -- Cost in US dollars.
        ('cost', 1, [
            'gen_ai.usage.cost', 'gen_ai.usage.total_cost', 'gen_ai.usage.cost.amount', 'gen_ai.cost.total',
            'gen_ai.cost.total_cost', 'operation.cost', 'llm.cost.total', '_signoz.gen_ai.total_cost'
        ]),
        ('cost_json', 0, ['langfuse.observation.cost_details', 'mlflow.llm.cost']),
        ('input_cost', 0, ['gen_ai.usage.input_cost', 'gen_ai.cost.input', 'gen_ai.cost.input_cost', 'llm.cost.prompt']),
        ('output_cost', 0, [
            'gen_ai.usage.output_cost', 'gen_ai.cost.output', 'gen_ai.cost.output_cost', 'llm.cost.completion'
        ]),
        ('currency', 0, ['gen_ai.usage.cost.currency']),
        ('cost_status', 1, ['otel_sessions.cost.status']),
        ('cost_source', 1, ['otel_sessions.cost.source'])
    ]) AS known
) AS names;

-- The same as each insert needs it, which asks for a row of arrays and not for a query (one millisecond instead of six):
-- the attributes, the latest ones first, the number of what each says (its place in the alphabet), and how many are the
-- latest. A later file that replaces the view puts in a row with a higher version.
CREATE TABLE IF NOT EXISTS attribute_order /*on_cluster*/
(
    version UInt64,
    attributes Array(String),
    fields Array(Int8),
    latest UInt64
)
ENGINE = /*replicated*/ReplacingMergeTree(version)
ORDER BY tuple();

INSERT INTO attribute_order
SELECT 1, groupArray(names.attribute), groupArray(toInt8(names.number)), countIf(names.is_latest)
FROM
(
    SELECT *, dense_rank() OVER (ORDER BY field) AS number
    FROM attribute_names
    ORDER BY is_latest DESC, field, position
) AS names;
