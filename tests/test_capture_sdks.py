"""The real SDKs over their own HTTP clients: one billable span per exchange, with the numbers of the response."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import groq
import httpx
import httpx2
import openai
import pytest
from google import genai
from mistralai.client import Mistral
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions.base import names

CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": CHAT_USAGE,
}
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}
CHUNKS = [
    CHUNK | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hello"}, "finish_reason": None}]},
    CHUNK | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    CHUNK | {"choices": [], "usage": CHAT_USAGE},
]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-4o-2024-08-06",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 8},
        "total_tokens": 120,
    },
}
RESPONSE_EVENTS = [
    {"type": "response.created", "sequence_number": 0, "response": RESPONSE | {"status": "in_progress", "usage": None}},
    {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m", "output_index": 0,
     "content_index": 0, "delta": "hello", "logprobs": []},
    {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
]  # fmt: skip
EMBEDDING = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 20,
    },
}
MESSAGE_EVENTS = [
    {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None,
     "usage": {**MESSAGE["usage"], "output_tokens": 1}}},  # type: ignore[dict-item]
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
     "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
]  # fmt: skip
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {
        "promptTokenCount": 90,
        "toolUsePromptTokenCount": 10,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 12,
        "thoughtsTokenCount": 8,
        "totalTokenCount": 120,
    },
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r-1",
}
SAID: list[Any] = [{"role": "user", "content": "hi"}]
FULL = {"input_tokens": 100, "output_tokens": 20, "cache_read.input_tokens": 40}


def sse(events: list[Any], *, named: bool = False) -> list[bytes]:
    return [
        (f"event: {event['type']}\n" if named else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    ]


def replies(module: Any, document: Any, events: list[bytes]) -> Callable[[Any], Any]:
    """``document``, or the events if the request asks for a stream."""

    def handler(request: Any) -> Any:
        streamed = b'"stream":true' in request.content.replace(b" ", b"") or "stream" in request.url.path
        if not streamed:
            return module.Response(200, json=document)
        return module.Response(200, stream=Pieces(events), headers={"content-type": "text/event-stream"})

    class Pieces(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, pieces: list[bytes]) -> None:
            self.pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            yield from self.pieces

        async def __aiter__(self) -> Any:
            for piece in self.pieces:
                yield piece

    return handler


CHAT_REPLIES = (CHAT, [*sse(CHUNKS), b"data: [DONE]\n\n"])


def sync_client(module: Any, *reply: Any) -> Any:
    return module.Client(transport=module.MockTransport(replies(module, *reply)))


def async_client(module: Any, *reply: Any) -> Any:
    return module.AsyncClient(transport=module.MockTransport(replies(module, *reply)))


def usage(span: ReadableSpan) -> dict[str, Any]:
    prefix = "gen_ai.usage."
    return {key.removeprefix(prefix): value for key, value in (span.attributes or {}).items() if key.startswith(prefix)}


def check(exporter: InMemorySpanExporter, name: str, expected: dict[str, int]) -> dict[str, Any]:
    (span,) = exporter.get_finished_spans()
    assert span.name == name
    assert usage(span) == expected
    found = dict(span.attributes or {})
    assert found[names.BODY_END] == "complete"
    return found


REASONING = FULL | {"reasoning.output_tokens": 8}


@pytest.mark.parametrize("stream", [False, True])
def test_openai_chat(*, stream: bool, exporter: InMemorySpanExporter) -> None:
    """OpenAI's chat completions, whole and streamed with usage."""
    with openai.OpenAI(api_key="k", http_client=sync_client(httpx2, *CHAT_REPLIES)) as client:
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        answer: Any = client.chat.completions.create(model="gpt-4o", messages=SAID, **options)
        if stream:
            assert [chunk.usage.prompt_tokens for chunk in answer if chunk.usage] == [100]
    found = check(exporter, "chat gpt-4o", REASONING)
    assert (found["gen_ai.provider.name"], found["gen_ai.response.finish_reasons"]) == ("openai", ("stop",))
    assert ("gen_ai.response.time_to_first_chunk" in found) is stream


async def test_openai_in_async(exporter: InMemorySpanExporter) -> None:
    """The async client, streamed."""
    async with openai.AsyncOpenAI(api_key="k", http_client=async_client(httpx2, *CHAT_REPLIES)) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o",
            messages=SAID,
            stream=True,
            stream_options={"include_usage": True},
        )
        assert len([chunk async for chunk in stream]) == 3
    check(exporter, "chat gpt-4o", REASONING)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_responses(*, stream: bool, exporter: InMemorySpanExporter) -> None:
    """The Responses API: usage of the response object, or of the event that carries it."""
    http = sync_client(httpx2, RESPONSE, sse(RESPONSE_EVENTS, named=True))
    with openai.OpenAI(api_key="k", http_client=http) as client:
        answer: Any = client.responses.create(model="gpt-4o", input="hi", stream=stream)
        if stream:
            assert len(list(answer)) == 3
    found = check(exporter, "chat gpt-4o", REASONING)
    assert (found["gen_ai.response.id"], found["gen_ai.response.finish_reasons"]) == ("resp_1", ("completed",))


def test_openai_embeddings(exporter: InMemorySpanExporter) -> None:
    """Embeddings have input tokens and no output."""
    with openai.OpenAI(api_key="k", http_client=sync_client(httpx2, EMBEDDING, [])) as client:
        client.embeddings.create(model="text-embedding-3-small", input="hi")
    check(exporter, "embeddings text-embedding-3-small", {"input_tokens": 4})


def test_azure_openai(exporter: InMemorySpanExporter) -> None:
    """Azure's deployment path, under Azure's provider name."""
    with openai.AzureOpenAI(
        api_key="k",
        api_version="2024-10-21",
        azure_endpoint="https://mine.openai.azure.com",
        http_client=sync_client(httpx2, *CHAT_REPLIES),
    ) as client:
        client.chat.completions.create(model="my-deployment", messages=SAID)
    assert check(exporter, "chat my-deployment", REASONING)["gen_ai.provider.name"] == "azure.ai.openai"


def test_retries_are_separate_attempts(exporter: InMemorySpanExporter) -> None:
    """A 429 and the answer to its retry are two exchanges, each with its own status."""
    seen: list[Any] = []

    def handler(request: Any) -> Any:
        seen.append(request)
        if len(seen) == 1:
            return httpx2.Response(429, json={"error": {"message": "slow"}}, headers={"retry-after-ms": "1"})
        return httpx2.Response(200, json=CHAT)

    http = httpx2.Client(transport=httpx2.MockTransport(handler))
    with openai.OpenAI(api_key="k", http_client=http, default_headers={"OTel-Session-Id": "run-1"}) as client:
        client.chat.completions.create(model="gpt-4o", messages=SAID)
    first, second = exporter.get_finished_spans()
    assert (first.attributes or {})["error.type"] == "429"
    assert usage(second) == REASONING
    assert [(span.attributes or {})["gen_ai.conversation.id"] for span in (first, second)] == ["run-1", "run-1"]
    assert not any("otel-session-id" in request.headers for request in seen)


def billable(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if (span.attributes or {}).get(names.BILLABLE) is not False]


def check_anthropic(exporter: InMemorySpanExporter) -> None:
    """The SDK makes a span of its own; it says that ours accounts for the exchange."""
    (ours,) = billable(exporter)
    assert ours.name == "chat claude-x"
    assert usage(ours) == FULL | {"cache_creation.input_tokens": 50}
    assert (ours.attributes or {})[names.CACHE_CREATION_1H_TOKENS] == 30
    (theirs,) = [span for span in exporter.get_finished_spans() if span is not ours]
    assert theirs.name == "anthropic.messages.create"
    assert ours.context is not None
    assert (theirs.attributes or {})[names.SUPERSEDED_BY] == f"{ours.context.span_id:016x}"


ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 100, "messages": SAID}
MESSAGE_REPLIES = (MESSAGE, sse(MESSAGE_EVENTS, named=True))


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic(*, stream: bool, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Anthropic's messages, whole and streamed: exactly one of the two spans is billable."""
    with anthropic.Anthropic(
        api_key="k", http_client=sync_client(httpx2, *MESSAGE_REPLIES), open_telemetry={"tracer_provider": provider}
    ) as client:
        answer: Any = client.messages.create(**ASK, stream=stream)
        if stream:
            assert len(list(answer)) == len(MESSAGE_EVENTS)
    check_anthropic(exporter)


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_in_async(*, stream: bool, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """As for the sync client."""
    async with anthropic.AsyncAnthropic(
        api_key="k", http_client=async_client(httpx2, *MESSAGE_REPLIES), open_telemetry={"tracer_provider": provider}
    ) as client:
        answer: Any = await client.messages.create(**ASK, stream=stream)
        if stream:
            assert len([event async for event in answer]) == len(MESSAGE_EVENTS)
    check_anthropic(exporter)


@pytest.mark.parametrize("stream", [False, True])
def test_google_genai(*, stream: bool, exporter: InMemorySpanExporter) -> None:
    """google-genai's generate_content: thoughts and tool results are part of the totals."""
    replies_ = (GEMINI, sse([GEMINI | {"usageMetadata": {"promptTokenCount": 90}}, GEMINI]))
    options = genai.types.HttpOptions(httpx_client=sync_client(httpx2, *replies_))
    client = genai.Client(api_key="k", http_options=options)
    if stream:
        assert len(list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi"))) == 2
    else:
        client.models.generate_content(model="gemini-2.5-flash", contents="hi")
    found = check(exporter, "generate_content gemini-2.5-flash", REASONING)
    assert (found["gen_ai.provider.name"], found["gen_ai.response.id"]) == ("gcp.gemini", "r-1")


@pytest.mark.parametrize("stream", [False, True])
def test_mistral(*, stream: bool, exporter: InMemorySpanExporter) -> None:
    """Mistral's chat: the usage of a stream is in its last chunk."""
    with Mistral(api_key="k", client=sync_client(httpx2, *CHAT_REPLIES)) as client:
        if stream:
            with client.chat.stream(model="mistral-small", messages=SAID) as events:
                assert len(list(events)) == 3
        else:
            client.chat.complete(model="mistral-small", messages=SAID)
    assert check(exporter, "chat mistral-small", REASONING)["gen_ai.provider.name"] == "mistral_ai"


@pytest.mark.parametrize("stream", [False, True])
def test_groq(*, stream: bool, exporter: InMemorySpanExporter) -> None:
    """Groq is still on httpx, and hides the usage of a stream in x_groq."""
    hidden = [*CHUNKS[:2], CHUNK | {"choices": [], "x_groq": {"id": "req", "usage": CHAT_USAGE}}]
    with groq.Groq(api_key="k", http_client=sync_client(httpx, CHAT, [*sse(hidden), b"data: [DONE]\n\n"])) as client:
        answer: Any = client.chat.completions.create(model="llama", messages=SAID, stream=stream)
        if stream:
            assert len(list(answer)) == 3
    assert check(exporter, "chat llama", REASONING)["gen_ai.provider.name"] == "groq"
