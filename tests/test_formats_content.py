"""Messages of Ollama, Cohere and Converse, for those who turned content on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from exchanges import events, exchange, lines, message

from otel_sessions.base.settings import Settings

HI = [{"role": "user", "content": "hi"}]
CONVERSE = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
TEXT = {"type": "text", "content": "Hello"}
CALL = {"type": "tool_call", "id": "t", "name": "f", "arguments": '{"a": 1}'}


def messages(url: str, request: Any, response: Any) -> tuple[Any, Any]:
    """What was recorded of request and response."""
    found = exchange(url, request, response, settings=Settings(capture_content=True)) or {}
    return tuple(json.loads(found.get(f"gen_ai.{side}.messages", "null")) for side in ("input", "output"))


@pytest.mark.parametrize(
    "answer",
    [
        {"message": {"content": "Hello", "thinking": "Hm"}, "done_reason": "stop"},
        lines(
            {"message": {"thinking": "Hm"}},
            {"message": {"content": "Hel"}},
            {"message": {"content": "lo"}, "done_reason": "stop"},
        ),
    ],
    ids=["document", "lines"],
)
def test_ollama(answer: Any) -> None:
    """Pieces of text are joined, thoughts stand before them."""
    asked, said = messages("http://localhost:11434/api/chat", {"model": "m", "messages": HI}, answer)
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    thought = {"type": "reasoning", "content": "Hm"}
    assert said == [{"role": "assistant", "parts": [thought, TEXT], "finish_reason": "stop"}]


def test_ollama_generates_and_calls_tools() -> None:
    """A completion has a response in place of a message."""
    _, said = messages("http://localhost:11434/api/generate", {"model": "m", "prompt": "hi"}, {"response": "Hello"})
    assert said == [{"role": "assistant", "parts": [TEXT], "finish_reason": ""}]
    answer = {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}}
    _, called = messages("http://localhost:11434/api/chat", {"model": "m", "messages": HI}, answer)
    assert called[0]["parts"] == [{"type": "tool_call", "name": "f", "arguments": {"a": 1}}]


TOOL = {"id": "t", "function": {"name": "f", "arguments": '{"a"'}}


@pytest.mark.parametrize(
    "answer",
    [
        {"finish_reason": "COMPLETE", "message": {
            "content": [{"type": "text", "text": "Hello"}], "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": '{"a": 1}'}}]}},
        events(
            {"type": "content-delta", "delta": {"message": {"content": {"text": "Hel"}}}},
            {"type": "content-delta", "delta": {"message": {"content": {"text": "lo"}}}},
            {"type": "tool-call-start", "delta": {"message": {"tool_calls": TOOL}}},
            {"type": "tool-call-delta", "delta": {"message": {"tool_calls": {"function": {"arguments": ": 1}"}}}}},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
        ),
    ],
    ids=["document", "events"],
)  # fmt: skip
def test_cohere(answer: Any) -> None:
    """Version 2 speaks like OpenAI in requests and in events of its own."""
    asked, said = messages("https://api.cohere.com/v2/chat", {"model": "m", "messages": HI}, answer)
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert said == [{"role": "assistant", "parts": [TEXT, CALL], "finish_reason": "COMPLETE"}]


def test_cohere_version_1() -> None:
    """A stream ends with the whole answer, which is taken in place of its pieces."""
    end = {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"text": "Hello"}}
    for answer in (
        {"text": "Hello", "finish_reason": "COMPLETE"},
        lines({"event_type": "text-generation", "text": "Hel"}, end),
    ):
        asked, said = messages("https://api.cohere.com/v1/chat", {"message": "hi", "preamble": "Be brief"}, answer)
        assert asked == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
        assert said == [{"role": "assistant", "parts": [TEXT], "finish_reason": "COMPLETE"}]


@pytest.mark.parametrize("streamed", [False, True])
def test_converse(streamed: bool) -> None:  # noqa: FBT001
    """Blocks of a document, or of the events of a stream, in which a tool's input comes in pieces."""
    request = {
        "messages": [{"role": "user", "content": [{"text": "hi"}, {"image": {}}]}],
        "system": [{"text": "Be brief"}],
    }
    tool = {"toolUseId": "t", "name": "f"}
    answer: Any = {"stopReason": "tool_use", "output": {"message": {"content": [
        {"reasoningContent": {"reasoningText": {"text": "Hm"}}}, {"text": "Hello"}, {"toolUse": {**tool, "input": '{"a": 1}'}},
    ]}}}  # fmt: skip
    if streamed:
        deltas = [{"reasoningContent": {"text": "Hm"}}, {"text": "Hel"}, {"text": "lo"}]
        pieces = [{"toolUse": {"input": '{"a"'}}, {"toolUse": {"input": ": 1}"}}]
        answer = b"".join(
            [message({"delta": delta}, event_type="contentBlockDelta") for delta in deltas]
            + [message({"start": {"toolUse": tool}}, event_type="contentBlockStart")]
            + [message({"delta": delta}, event_type="contentBlockDelta") for delta in pieces]
            + [message({"stopReason": "tool_use"}, event_type="messageStop")]
        )
    asked, said = messages(CONVERSE + ("-stream" if streamed else ""), request, answer)
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "hi"}, {"type": "image"}]}]
    assert said == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "Hm"}, TEXT, CALL],
            "finish_reason": "tool_use",
        }
    ]
