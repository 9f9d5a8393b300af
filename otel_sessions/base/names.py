"""Span attribute names. No other module spells one.

``gen_ai.*`` are the OpenTelemetry GenAI semantic conventions (Development), ``otel_sessions.*`` is our own
namespace for what the conventions have no name for.
"""

from collections.abc import Mapping
from typing import Final

# Session
SESSION_ID: Final = "session.id"
SESSION_NAME: Final = "session.name"
SESSION_PATH: Final = "session.path"
USER_ID: Final = "user.id"
PROPERTY_PREFIX: Final = "session.property."
CONVERSATION_ID: Final = "gen_ai.conversation.id"
STEP_KIND: Final = "otel_sessions.step.kind"
STEP: Final = "otel_sessions.step"
"""``True`` on step spans, which stand for a path and not for an operation."""

# GenAI request
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_SERVICE_TIER: Final = "gen_ai.request.service_tier"

LLM_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content", "embeddings", "rerank", "moderation"})
"""Operations that are one exchange with a model; ``store/schema/002_typed_spans.sql`` has the same list."""

LLM_SPANS: Final[Mapping[str, frozenset[str]]] = {
    OPERATION: frozenset({"chat", "text_completion", "generate_content", "embeddings"}),
    "openinference.span.kind": frozenset({"LLM", "EMBEDDING"}),
    "llm.request.type": frozenset({"chat", "completion", "embedding"}),
    "langfuse.observation.type": frozenset({"generation", "embedding"}),
}
"""How the spans of other instrumentations, of those that work in process, say that they are one LLM call.

The store reads these and more: ``kind`` in ``store/schema/000_attribute_names.sql``.
"""

# GenAI response
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
RESPONSE_SERVICE_TIER: Final = "gen_ai.response.service_tier"
RESPONSE_SPEED: Final = "otel_sessions.response.speed"
"""``fast`` where the provider sells speed apart from the service tier (Anthropic's ``usage.speed``)."""
RESPONSE_REGION: Final = "otel_sessions.response.region"
"""Where the model ran, if it had to run there, and that costs more (``us``: Anthropic's ``usage.inference_geo``)."""

# Usage: input includes cache reads and writes, output includes reasoning
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
VIDEO_INPUT_TOKENS: Final = "gen_ai.usage.video.input_tokens"
VIDEO_OUTPUT_TOKENS: Final = "gen_ai.usage.video.output_tokens"
CACHED_AUDIO_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
CACHED_IMAGE_TOKENS: Final = "gen_ai.usage.image.cache_read.input_tokens"
WEB_SEARCHES: Final = "otel_sessions.usage.web_searches"
"""Searches that the provider made for the call and bills one by one."""
CACHE_CREATION_1H_TOKENS: Final = "otel_sessions.usage.cache_creation_1h.input_tokens"
RAW_USAGE: Final = "otel_sessions.usage.raw"
"""The provider's usage object as it stood in the response, JSON text."""

# Cost
COST: Final = "gen_ai.usage.cost"
COST_STATUS: Final = "otel_sessions.cost.status"
COST_SOURCE: Final = "otel_sessions.cost.source"

# Exchange
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_STATUS: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
BILLABLE: Final = "otel_sessions.billable"
"""``False`` on a span that describes an exchange which another span already accounts for."""
SUPERSEDED_BY: Final = "otel_sessions.superseded_by"
"""Span id, 16 hex digits, of the billable span of the same exchange."""
BODY_END: Final = "otel_sessions.response.end"
"""How the response body ended: ``complete``, ``closed``, ``failed``, ``cancelled``, ``abandoned`` or ``none``."""

# Completeness: what a process made of a session, so that a reader can tell whether all of it arrived
PROCESS: Final = "otel_sessions.process"
"""Names the process that made the span, anew for each."""
SEQUENCE: Final = "otel_sessions.sequence"
"""Number of the span among those of its session and process, from 1."""
END: Final = "otel_sessions.end"
"""``True`` on the span with which a process ended a session."""

# Content, only when the user asked for it
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"

SCOPE: Final = "otel_sessions"
"""Instrumentation scope of every span that this package makes."""
