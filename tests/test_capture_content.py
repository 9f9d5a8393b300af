"""Message content: only on request, in the shape of the conventions, and never past the user's redaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions import capture
from otel_sessions.base import names
from otel_sessions.base.guard import counters
from otel_sessions.base.settings import Settings

CHAT_URL = "https://api.openai.com/v1/chat/completions"
SECRET = "4111-1111"
CONTENT = (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS)
CALL = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": f'{{"card":"{SECRET}"}}'}}
CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be kind"},
        {
            "role": "user",
            "content": [{"type": "text", "text": f"card {SECRET}"}, {"type": "image_url", "image_url": {}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": f"paid {SECRET}"},
    ],
}
CHAT_SENT = [
    {"role": "system", "parts": [{"type": "text", "content": "be kind"}]},
    {"role": "user", "parts": [{"type": "text", "content": f"card {SECRET}"}, {"type": "image_url"}]},
    {"role": "assistant", "parts": [
        {"type": "tool_call", "id": "c1", "name": "pay", "arguments": f'{{"card":"{SECRET}"}}'}]},
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": f"paid {SECRET}"}]},
]  # fmt: skip
TOOL_CALL = {"type": "tool_call", "id": "c1", "name": "pay"}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


Record = Callable[..., dict[str, Any]]


@pytest.fixture
def record(provider: TracerProvider, exporter: InMemorySpanExporter) -> Iterator[Record]:
    """Sends a request with these settings, and gives the content that its span has."""

    def send(url: str, body: Any, reply: Any, **settings: Any) -> dict[str, Any]:
        capture.uninstrument()
        capture.instrument(provider, settings=Settings(**{"capture_content": True, **settings}))
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=content))
        with httpx2.Client(transport=transport) as http:
            http.post(url, json=body)
        (span,) = exporter.get_finished_spans()
        found = {name: (span.attributes or {}).get(name) for name in CONTENT}
        return {
            name.removeprefix("gen_ai."): json.loads(str(value)) for name, value in found.items() if value is not None
        }

    yield send
    capture.uninstrument()


def output(*parts: Any, reason: str = "stop") -> list[Any]:
    return [{"role": "assistant", "parts": list(parts), "finish_reason": reason}]


def test_content_is_off_by_default(record: Record) -> None:
    """Without the setting no message is recorded."""
    reply = {"choices": [{"message": {"content": "hello"}}]}
    assert record(CHAT_URL, CHAT, reply, capture_content=False) == {}


@pytest.mark.parametrize("stream", [False, True])
def test_openai_chat(record: Record, *, stream: bool) -> None:
    """Text and tool calls of a chat, whole and put together from deltas; images are named, not recorded."""
    call = {"index": 0, "id": "c1", "function": {"name": "pay", "arguments": '{"a'}}
    events = [
        chunk(content="hel"),
        chunk(content="lo", tool_calls=[call]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '":1}'}}]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    tool = {"id": "c1", "function": {"name": "pay", "arguments": '{"a":1}'}}
    whole = {"choices": [{"message": {"content": "hello", "tool_calls": [tool]}, "finish_reason": "stop"}]}
    assert record(CHAT_URL, CHAT, sse(*events) if stream else whole) == {
        "input.messages": CHAT_SENT,
        "output.messages": output({"type": "text", "content": "hello"}, TOOL_CALL | {"arguments": '{"a":1}'}),
    }


@pytest.mark.parametrize("stream", [False, True])
def test_openai_responses(record: Record, *, stream: bool) -> None:
    """Instructions, items and output items; of a stream, those of its last response."""
    body = {
        "model": "m",
        "instructions": "be kind",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "function_call", "call_id": "c1", "name": "pay", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "paid"},
        ],
    }
    response = {
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
        ]
    }
    events = sse(
        {"type": "response.created", "response": {"output": []}}, {"type": "response.completed", "response": response}
    )
    assert record("https://api.openai.com/v1/responses", body, events if stream else response) == {
        "system_instructions": [{"type": "text", "content": "be kind"}],
        "input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
            {"role": "assistant", "parts": [TOOL_CALL | {"arguments": "{}"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "paid"}]},
        ],
        "output.messages": [
            {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}]},
            {"role": "assistant", "parts": [{"type": "text", "content": "hello"}]},
        ],
    }


def test_a_responses_stream_that_was_cut(record: Record) -> None:
    """Without a last response, the text so far."""
    events = sse(*({"type": "response.output_text.delta", "delta": text} for text in ("hel", "lo")))
    found = record("https://api.openai.com/v1/responses", {"model": "m", "input": "hi"}, events)
    assert found["output.messages"] == [{"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}]
    assert found["input.messages"] == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic(record: Record, *, stream: bool) -> None:
    """System prompt, tool use and tool results; a stream's blocks are put together."""
    body = {
        "model": "m",
        "max_tokens": 1,
        "system": [{"type": "text", "text": "be kind"}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "paid"}]},
        ],
    }
    message = {
        "type": "message",
        "stop_reason": "tool_use",
        "content": [
            {"type": "text", "text": "hello"},
            {"type": "tool_use", "id": "c1", "name": "pay", "input": '{"a":1}'},
        ],
    }
    events = sse(
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
        {"type": "content_block_start", "index": 1,
         "content_block": {"type": "tool_use", "id": "c1", "name": "pay", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    )  # fmt: skip
    assert record("https://api.anthropic.com/v1/messages", body, events if stream else message) == {
        "system_instructions": [{"type": "text", "content": "be kind"}],
        "input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
            {"role": "user", "parts": [{"type": "tool_call_response", "id": "c1", "response": "paid"}]},
        ],
        "output.messages": output(
            {"type": "text", "content": "hello"}, TOOL_CALL | {"arguments": '{"a":1}'}, reason="tool_use"
        ),
    }


@pytest.mark.parametrize("stream", [False, True])
def test_gemini(record: Record, *, stream: bool) -> None:
    """System instruction and contents; the texts of a stream's chunks are joined."""

    def reply(*parts: Any, **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}

    body = {
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}, {"inlineData": {"data": "AAAA"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "pay", "response": {"ok": True}}}]},
        ],
    }
    call = {"functionCall": {"name": "pay", "args": {"a": 1}}}
    whole = reply({"text": "hm", "thought": True}, {"text": "hello"}, call, finishReason="STOP")
    chunks = [reply({"text": "hm", "thought": True}), reply({"text": "hel"}), reply({"text": "lo"}, call)]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    url = "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent"
    assert record(url, body, chunks if stream else whole) == {
        "system_instructions": [{"type": "text", "content": "be kind"}],
        "input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "hi"}, {"type": "inlineData"}]},
            {"role": "user", "parts": [{"type": "tool_call_response", "id": None, "response": {"ok": True}}]},
        ],
        "output.messages": output(
            {"type": "reasoning", "content": "hm"},
            {"type": "text", "content": "hello"},
            {"type": "tool_call", "id": None, "name": "pay", "arguments": {"a": 1}},
            reason="STOP",
        ),
    }


def test_every_text_passes_the_redaction(record: Record) -> None:
    """Messages, arguments and results with their keys, also where a key of the arguments is called name."""
    body = {
        "contents": [
            {"role": "user", "parts": [{"functionCall": {"name": "pay", "args": {"name": SECRET, "x": [{SECRET: 1}]}}}]}
        ]
    }
    url = "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent"
    found = record(url, body, {"candidates": []}, redact=lambda text: text.replace(SECRET, "***"))
    assert found["input.messages"][0]["parts"][0]["arguments"] == {"name": "***", "x": [{"***": 1}]}


def test_redacted_chat(record: Record) -> None:
    """No trace of the secret is left in anything that is recorded."""
    reply = {"choices": [{"message": {"content": f"your card is {SECRET}", "tool_calls": [CALL]}}]}
    found = record(CHAT_URL, CHAT, reply, redact=lambda text: text.replace(SECRET, "***"))
    assert SECRET not in json.dumps(found)
    assert json.dumps(found).count("***") == 5


@pytest.mark.parametrize("redact", [lambda text: 1 / 0, lambda text: None])
def test_without_redaction_nothing_is_recorded(record: Record, redact: Any) -> None:
    """If the user's function raises or returns no text, the content is left out and counted."""
    before = counters().get("content.redact", 0)
    assert record(CHAT_URL, CHAT, {"choices": [{"message": {"content": "x"}}]}, redact=redact) == {}
    assert counters()["content.redact"] == before + 2


def test_a_long_response_is_recorded_without_its_messages(record: Record) -> None:
    """What is kept for content is bounded."""
    reply = sse(*(chunk(content="x" * 100_000) for _ in range(12)))
    assert set(record(CHAT_URL, CHAT, reply)) == {"input.messages"}
