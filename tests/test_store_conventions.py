"""What ``llm_calls`` reads from the spans of other instrumentations, whoever wrote them and with whichever names."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from memory_store import memory_store
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from recorded_spans import SECOND, START, call, span

from otel_sessions.store import Store

OPENINFERENCE = {"openinference.span.kind": "LLM", "llm.provider": "openai", "llm.model_name": "gpt-4o"}
LANGFUSE = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-4o"}
TRACELOOP = {"llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-4o"}
AI_SDK = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": "openai.chat", "ai.model.id": "gpt-4o"}
OTEL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as opened:
        yield opened


def read(store: Store, attributes: Mapping[str, Any], columns: str, **rest: Any) -> Any:
    """The ``columns`` of the one call that a span with ``attributes`` is read as; None if it is read as none."""
    trace = uuid.uuid4().int >> 8
    scope = InstrumentationScope("someone.else", "1")
    store.insert([span(1, attributes, trace=trace, scope=scope, **rest)], uuid.uuid4().hex)
    # Past the reader, which would settle first: here each call stands alone.
    found = store._connection.query(f"SELECT {columns} FROM llm_calls WHERE trace_id = '{trace:032x}'").result_rows
    assert len(found) <= 1
    return tuple(found[0]) if found else None


USAGE = "input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens"


@pytest.mark.parametrize(
    ("attributes", "usage"),
    [
        (
            {
                **OTEL,
                "gen_ai.usage.input_tokens": "100",
                "gen_ai.usage.output_tokens": "20",
                "gen_ai.usage.cache_read.input_tokens": "40",
                "gen_ai.usage.cache_write.input_tokens": "10",
                "gen_ai.usage.reasoning.output_tokens": "7",
            },
            (100, 20, 40, 10, 7),
        ),
        (
            {
                **OPENINFERENCE,
                "llm.token_count.prompt": 100,
                "llm.token_count.completion": 20,
                "llm.token_count.prompt_details.cache_read": 40,
                "llm.token_count.prompt_details.cache_write": 10,
                "llm.token_count.completion_details.reasoning": 7,
            },
            (100, 20, 40, 10, 7),
        ),
        (
            {
                **TRACELOOP,
                "gen_ai.usage.prompt_tokens": 100,
                "gen_ai.usage.completion_tokens": 20,
                "gen_ai.usage.cache_read_input_tokens": 40,
                "gen_ai.usage.cache_creation_input_tokens": 10,
                "gen_ai.usage.reasoning_tokens": 7,
            },
            (100, 20, 40, 10, 7),
        ),
        (
            {
                **AI_SDK,
                "ai.usage.promptTokens": 100,
                "ai.usage.completionTokens": 20,
                "ai.usage.cachedInputTokens": 40,
                "ai.usage.reasoningTokens": 7,
            },
            (100, 20, 40, None, 7),
        ),
        ({**AI_SDK, "ai.usage.inputTokens": 100, "ai.usage.outputTokens": 20}, (100, 20, None, None, None)),
        (
            {
                **OTEL,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 20,
                "gen_ai.usage.input_tokens.cached": 40,
                "gen_ai.usage.input_tokens.cache_write": 10,
                "gen_ai.usage.output_tokens.reasoning": 7,
            },
            (100, 20, 40, 10, 7),
        ),
        (
            {
                **OTEL,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 20,
                "gen_ai.usage.details.cache_read_tokens": 40,
                "gen_ai.usage.cache_read.input_tokens": 40,
            },
            (100, 20, 40, None, None),
        ),
        (
            # SGLang and rig; Bifrost
            {
                **OTEL,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 20,
                "gen_ai.usage.cached_tokens": 40,
            },
            (100, 20, 40, None, None),
        ),
        (
            {
                **OTEL,
                "gen_ai.usage.prompt_tokens": 100,
                "gen_ai.usage.completion_tokens": 20,
                "gen_ai.usage.prompt_token_details.cached_read_tokens": 40,
                "gen_ai.usage.prompt_token_details.cached_write_tokens": 10,
                "gen_ai.usage.completion_token_details.reasoning_tokens": 7,
            },
            (100, 20, 40, 10, 7),
        ),
        (
            # Semantic Kernel: -1 is unknown
            {
                "gen_ai.operation.name": "chat.completions",
                "gen_ai.response.prompt_tokens": 100,
                "gen_ai.response.completion_tokens": -1,
            },
            (100, None, None, None, None),
        ),
        (
            # Claude Code: bare words, and what came from the cache is not in the input
            {
                "span.type": "llm_request",
                "gen_ai.system": "anthropic",
                "gen_ai.request.model": "claude-x",
                "input_tokens": "2",
                "output_tokens": "1200",
                "cache_read_tokens": "84562",
                "cache_creation_tokens": "7096",
            },
            (91660, 1200, 84562, 7096, None),
        ),
        (
            # LangSmith, through OTLP
            {
                "langsmith.span.kind": "llm",
                "langsmith.usage_metadata": '{"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, '
                '"input_token_details": {"cache_read": 40}}',
            },
            (100, 20, 40, None, None),
        ),
    ],
)
def test_token_counts_of_each_convention(store: Store, attributes: dict[str, Any], usage: tuple[Any, ...]) -> None:
    """One meaning whatever the name: input with cache, output with reasoning; what is not said is NULL."""
    assert read(store, attributes, USAGE) == usage


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        ({"input": 50, "output": 13, "input_cached_tokens": 40, "output_reasoning_tokens": 7}, (90, 20, 40, None, 7)),
        (
            {"input": 10, "output": 20, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 30},
            (90, 20, 50, 30, None),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 40},
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            (100, 20, 40, None, 7),
        ),
        (
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens_details": {"reasoning_tokens": 7},
            },
            (100, 20, 40, None, 7),
        ),
        ({"input": 9}, (9, None, None, None, None)),
        ("no json", (None, None, None, None, None)),
    ],
)
def test_a_usage_object_has_exclusive_buckets_unless_it_is_openais(
    store: Store, details: Any, usage: tuple[Any, ...]
) -> None:
    """Numbers beside each other add up to the input; OpenAI's nested details are part of it."""
    assert read(store, {**LANGFUSE, "langfuse.observation.usage_details": json.dumps(details)}, USAGE) == usage


def test_mlflows_usage_says_by_its_total_that_the_cache_is_included(store: Store) -> None:
    """Its total is input and output: the cache is part of the input."""
    counts = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 40}
    attributes = {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.chat.tokenUsage": json.dumps(counts)}
    assert read(store, attributes, USAGE) == (100, 20, 40, None, None)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"gen_ai.usage.cache_read_input_tokens": 50}, 60),
        ({"gen_ai.usage.cache_read_input_tokens": 4, "gen_ai.usage.total_tokens": 15}, 10),
        ({"gen_ai.usage.cache_read_input_tokens": 4, "gen_ai.usage.total_tokens": 19}, 14),
        ({"gen_ai.usage.cache_read_input_tokens": 4, "gen_ai.usage.cache_creation_input_tokens": 7}, 21),
    ],
)
def test_input_that_leaves_the_cache_out_is_completed(store: Store, more: dict[str, int], expected: int) -> None:
    """Raw Anthropic numbers: more cache than input, or a total that is only reached with the cache."""
    usage = {"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 5, **more}
    assert read(store, {**TRACELOOP, **usage}, "input_tokens") == (expected,)


@pytest.mark.parametrize("value", ["-5", "", "many", "1.5", str(2**64), "null"])
def test_counts_that_are_none_are_unknown(store: Store, value: str) -> None:
    """Negative, empty, text, fractions and what no 64 bits hold: NULL, never 0."""
    attributes = {**OTEL, "gen_ai.usage.input_tokens": value, "gen_ai.usage.output_tokens": 3}
    assert read(store, attributes, "input_tokens, output_tokens") == (None, 3)


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({"openinference.span.kind": "EMBEDDING"}, "embeddings"),
        ({"llm.request.type": "completion"}, "text_completion"),
        ({"langfuse.observation.type": "embedding"}, "embeddings"),
        ({"lmnr.span.type": "LLM"}, "chat"),
        ({"langsmith.span.kind": "llm"}, "chat"),
        ({"agentops.span.kind": "llm"}, "chat"),
        ({"mlflow.spanType": '"EMBEDDING"'}, "embeddings"),
        ({"ai.operationId": "ai.streamText.doStream"}, "chat"),
        ({"ai.operationId": "ai.embedMany.doEmbed"}, "embeddings"),
        ({"gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 1}, "chat"),
        ({"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1}, "chat"),
        ({"gen_ai.provider.name": "p", "gen_ai.response.model": "m", "gen_ai.usage.output_tokens": 1}, "chat"),
        ({"gen_ai.operation.name": "chat.completions"}, "chat"),
        ({"gen_ai.operation.name": "text.completions"}, "text_completion"),
        ({"gen_ai.operation.name": "messages"}, "chat"),
        ({"gen_ai.operation.name": "responses"}, "chat"),
        ({"gen_ai.operation.name": "chat_streaming"}, "chat"),
        ({"gen_ai.operation.name": "llm_call", "gen_ai.agent.name": "a"}, "chat"),
        ({"gen_ai.span.kind": "EMBEDDING"}, "embeddings"),
        ({"fi.span.kind": "LLM"}, "chat"),
        ({"langwatch.span.type": "llm"}, "chat"),
        ({"gen_ai.operation.name": "generate_content"}, "generate_content"),
    ],
)
def test_kinds_of_llm_spans(store: Store, attributes: dict[str, Any], operation: str) -> None:
    """Each product's word for an LLM call; a model with usage and no word at all is one too."""
    assert read(store, attributes, "operation") == (operation,)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"gen_ai.operation.name": "invoke_agent"}, "wrapper"),
        ({"gen_ai.operation.name": "invoke_workflow"}, "wrapper"),
        ({"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 5}, "wrapper"),
        ({"ai.operationId": "ai.generateText", "ai.usage.promptTokens": 5}, "wrapper"),
        ({"traceloop.span.kind": "workflow"}, "wrapper"),
        ({"gen_ai.operation.name": "chat", "langsmith.span.kind": "prompt"}, "wrapper"),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.aggregated_usage.input_tokens": 9}, "aggregated"),
        ({"mlflow.spanType": "AGENT", "mlflow.trace.tokenUsage": '{"input_tokens": 5}'}, "aggregated"),
        ({**OTEL, "otel_sessions.billable": "false"}, "marked in process"),
    ],
)
def test_spans_that_repeat_usage_are_left_out_and_say_why(
    store: Store, attributes: dict[str, Any], reason: str
) -> None:
    """Agents, chains, workflows and outer AI SDK spans carry the usage of what they contain: none of it is summed."""
    session = uuid.uuid4().hex
    more = {"session.id": session, "gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 5}
    assert read(store, {**more, **attributes}, "span_id") is None
    found = store.reader().query(f"SELECT reason FROM suppressed_spans WHERE session_id = '{session}'").rows
    assert found == [(reason,)]


@pytest.mark.parametrize(
    ("written", "provider"),
    [
        ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
        ({"gen_ai.system": "vertex_ai"}, "gcp.vertex_ai"),
        ({"gen_ai.system": "Anthropic"}, "anthropic"),
        ({"llm.system": "mistralai"}, "mistral_ai"),
        ({"ai.model.provider": "google.generative-ai"}, "gcp.gemini"),
        ({"ai.model.provider": "anthropic.messages"}, "anthropic"),
        ({"ai.model.provider": "amazon-bedrock"}, "aws.bedrock"),
        ({"gen_ai.provider.name": "aws.bedrock"}, "aws.bedrock"),
        ({"gen_ai.provider.name": "azure.openai"}, "azure.ai.openai"),
        ({"gen_ai.provider.name": "gcp.vertex"}, "gcp.vertex_ai"),
        ({"ai.model.provider": "googleVertex.anthropic.messages"}, "gcp.vertex_ai"),
        ({"ai.model.provider": "bedrock.anthropic.messages"}, "aws.bedrock"),
        ({"gen_ai.model.provider": "openai"}, "openai"),
    ],
)
def test_providers_have_the_names_of_the_conventions(store: Store, written: dict[str, str], provider: str) -> None:
    """Legacy and product names become values of gen_ai.provider.name."""
    assert read(store, {"gen_ai.operation.name": "chat", **written}, "provider") == (provider,)


@pytest.mark.parametrize(
    ("attributes", "cost"),
    [
        ({"gen_ai.usage.cost": "0.000025"}, Decimal("0.000025")),
        ({"gen_ai.usage.total_cost": 1.5e-05}, Decimal("0.000015")),
        ({"operation.cost": 0.0004}, Decimal("0.0004")),
        ({"llm.cost.total": "1.8e-07"}, Decimal("0.00000018")),
        ({"llm.cost.prompt": 0.25, "llm.cost.completion": 0.5}, Decimal("0.75")),
        ({"langfuse.observation.cost_details": '{"input": 1, "total": 0.003}'}, Decimal("0.003")),
        ({"mlflow.llm.cost": '{"total_cost": 0.004}'}, Decimal("0.004")),
        ({"langfuse.observation.cost_details": '{"input_tokens": 0.0001, "output_tokens": 2e-3}'}, Decimal("0.0021")),
        ({"langsmith.usage_metadata": '{"input_tokens": 5, "total_cost": 0.005}'}, Decimal("0.005")),
        ({"gen_ai.usage.cost.amount": 2, "gen_ai.usage.cost.currency": "USD"}, Decimal(2)),
    ],
)
def test_a_cost_on_the_span_is_taken_as_it_is(store: Store, attributes: dict[str, Any], cost: Decimal) -> None:
    """In whichever form: it is what the response or the product said."""
    assert read(store, {**OTEL, **attributes}, "cost_usd, cost_status") == (cost, "provided")


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.usage.cost.amount": 2, "gen_ai.usage.cost.currency": "EUR"},
        {"operation.cost": "-1"},
        {"operation.cost": "free"},
    ],
)
def test_a_cost_that_is_no_amount_of_dollars_is_unknown(store: Store, attributes: dict[str, Any]) -> None:
    """Other currencies, negative amounts, words: NULL, never 0."""
    assert read(store, {**OTEL, "gen_ai.request.model": "no-such-model", **attributes}, "cost_usd") == (None,)


def test_times_to_the_first_chunk(store: Store) -> None:
    """Seconds, milliseconds, a point in time in quotes, or the first event of the stream."""
    at = START + SECOND // 4
    event = Event("First Token Stream Event", timestamp=at)
    iso = '"2026-01-01T00:00:00.250000Z"'
    for attributes, events in (
        ({"gen_ai.server.time_to_first_token": 0.25}, ()),
        ({"ai.response.msToFirstChunk": 250}, ()),
        ({"langfuse.observation.completion_start_time": iso}, ()),
        ({"gen_ai.client.operation.time_to_first_chunk": 0.25}, ()),
        ({"ttft_ms": 250}, ()),
        ({"llm.is_streaming": True}, (event,)),
    ):
        assert read(store, {**OTEL, **attributes}, "ttft_seconds", events=events) == (0.25,)


def test_what_micrometer_calls_none_is_nothing(store: Store) -> None:
    """Spring AI writes it for a response that never came."""
    attributes = {**OTEL, "gen_ai.response.model": "none", "gen_ai.response.id": "none", "error.type": "x"}
    assert read(store, attributes, "response_model, response_id") == ("", "")


def test_a_list_of_finish_reasons_without_quotes(store: Store) -> None:
    """Semantic Kernel's."""
    assert read(store, {**OTEL, "gen_ai.response.finish_reason": "[Stop, Length]"}, "finish_reasons") == (
        ["Stop", "Length"],
    )


def test_the_rest_of_a_span(store: Store) -> None:
    """Finish reasons in any form, the response's id and model out of its JSON, tier, stream flag, status, user."""
    body = json.dumps({"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": []})
    attributes = {
        **OPENINFERENCE,
        "output.value": body,
        "llm.finish_reason": "stop",
        "llm.is_streaming": "True",
        "openai.response.service_tier": "flex",
        "http.status_code": 200,
        "langfuse.user.id": "ada",
    }
    columns = "response_id, response_model, finish_reasons, streamed, service_tier, http_status, user_id"
    expected = ("chatcmpl-1", "gpt-4o-2024-08-06", ["stop"], True, "flex", 200, "ada")
    assert read(store, attributes, columns) == expected
    quoted = {**LANGFUSE, "langfuse.observation.metadata.finish_reason": '"length"'}
    assert read(store, quoted, "finish_reasons") == (["length"],)


def _names(field: str) -> list[str]:
    text = (Path(__file__).parents[1] / "otel_sessions/store/schema/000_attribute_names.sql").read_text()
    [listed] = re.findall(rf"\('{field}', \d, \[(.*?)\]\)", text, re.DOTALL)
    return re.findall(r"'([^']+)'", listed)


@pytest.mark.parametrize("name", [*_names("session"), *_names("conversation")])
def test_every_session_attribute_makes_a_session(store: Store, name: str) -> None:
    """The list in otel_traces is that of attribute_names, and quotes around an id are no part of it."""
    session = f"session of {name}"
    source = "own" if name in _names("session") else "conversation"
    found = read(store, {**OTEL, name: json.dumps(session)}, "session_id, session_source")
    assert found == ((session, source) if name != "session.id" else (json.dumps(session), source))


def test_a_session_of_ones_own_wins_over_the_conversation(store: Store) -> None:
    """Our names come first, gen_ai.conversation.id and threads last."""
    both = {"gen_ai.conversation.id": "thread", "langfuse.session.id": "session"}
    assert read(store, {**OTEL, **both}, "session_id, session_source") == ("session", "own")


def test_our_own_spans_take_the_short_way(store: Store) -> None:
    """Each attribute that our spans carry is among the latest names: nothing of ours is read the long way."""
    attributes = dict(call(1, cost=0.5).attributes or {})
    latest = {name for (name,) in store.reader().query("SELECT attribute FROM attribute_names WHERE is_latest").rows}
    known = {name for (name,) in store.reader().query("SELECT attribute FROM attribute_names").rows}
    assert known & set(attributes) <= latest
    assert len(known) > 150


def sums(store: Store, session: str) -> tuple[Any, ...]:
    """Calls, cost and its status, which the views over sessions and over steps have to agree on."""
    asked = "SELECT calls, cost_usd, cost_status FROM {} WHERE session_id = '{}'"
    [of_session] = store.reader().query(asked.format("sessions", session)).rows
    [of_step] = store.reader().query(asked.format("session_steps", session) + " AND path = '/'").rows
    assert of_session == of_step
    return of_session


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"gen_ai.operation.name": "moderation"}, "complete"),
        ({"error.type": "httpx2.ConnectError"}, "complete"),
        ({"error.type": "httpx.PoolTimeout"}, "complete"),
        ({"error.type": "429", "http.response.status_code": 429}, "complete"),
        ({"error.type": "httpx2.ReadTimeout"}, "partial"),
        ({"otel_sessions.response.end": "closed", "http.response.status_code": 200}, "partial"),
    ],
)
def test_what_is_not_billed_is_not_missing(store: Store, more: dict[str, Any], expected: str) -> None:
    """Moderations, calls that were refused or never arrived cost nothing; one that was cut off may have cost something."""
    session = uuid.uuid4().hex
    shared = {"session.id": session, "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    paid = {**shared, "gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.cost": 0.5}
    free = {**shared, "gen_ai.operation.name": "chat", **more}
    scope = InstrumentationScope("otel_sessions")
    store.insert([span(1, paid, scope=scope), span(2, free, scope=scope)], session)
    assert sums(store, session) == (2, Decimal("0.5"), expected)
    alone, model = uuid.uuid4().hex, f"model-{uuid.uuid4().hex}"
    store.insert([span(3, {**free, "session.id": alone, "gen_ai.request.model": model}, scope=scope)], alone)
    cost = Decimal(0) if expected == "complete" else None
    assert sums(store, alone) == (1, cost, "complete" if expected == "complete" else "unknown")
    assert store.reader().query(f"SELECT cost_usd FROM model_usage WHERE model = '{model}'").rows == [(cost,)]


def test_a_session_id_that_was_scrubbed_is_none(store: Store) -> None:
    """Logfire writes one text instead of all session ids; the next attribute that names a session counts."""
    scrubbed = {"session.id": "[Scrubbed due to 'session']", "gen_ai.conversation.id": uuid.uuid4().hex}
    assert read(store, {**OTEL, **scrubbed}, "session_id") == (scrubbed["gen_ai.conversation.id"],)


def test_the_numbers_of_fields_are_their_places_in_the_alphabet(store: Store) -> None:
    """What the columns name is what attribute_names lists, in its order: the insert tells the fields apart by number."""
    fields = [
        name for (name,) in store.reader().query("SELECT DISTINCT field FROM attribute_names ORDER BY field").rows
    ]
    types = store.reader().query(
        "SELECT type FROM system.columns WHERE database = currentDatabase() AND type LIKE 'Map(Enum8(%'"
    )
    numbered = [list(re.findall(r"'(\w+)' = (\d+)", kind)) for (kind,) in types.rows]
    assert numbered
    assert all(each == [(name, str(place)) for place, name in enumerate(fields, 1)] for each in numbered)
