"""Cohere's wire format: chat of both versions, generate, summarize, embed, parse. Ranking is in ``rerank``.

Usage (https://docs.cohere.com/reference/chat): ``billed_units`` is what the bill says; ``tokens`` includes the
preamble, which is free. Only where units are missing do the tokens count, and only then ``cached_tokens``, which are a
part of those. Version 1 puts both under ``meta``, at the end of a stream under ``response.meta``; version 2 under
``usage``, at the end of a stream under ``delta.usage``. Streams are SSE or one JSON document per line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from otel_sessions.capture.formats.openai import chat_sent
from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Conversation,
    Endpoint,
    Message,
    Usage,
    decode,
    objects,
    parameters,
    part_of,
    starts,
    text,
    tokens,
)

_COHERE = "cohere"


class _Request(msgspec.Struct):
    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    temperature: Any = None
    p: Any = None
    message: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    texts: msgspec.Raw = NOTHING
    images: msgspec.Raw = NOTHING
    inputs: msgspec.Raw = NOTHING


class _Generation(msgspec.Struct):
    finish_reason: Any = None


class _Answer(msgspec.Struct):
    id: Any = None
    response_id: Any = None
    finish_reason: Any = None
    generations: list[_Generation] | None = None
    meta: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING


class _Part(_Answer):
    response: _Answer | None = None
    delta: _Answer | None = None
    type: Any = None
    event_type: Any = None


def call(body: bytes) -> Call:
    """Body of a request of either version."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    lists = (found.messages, found.texts, found.images, found.inputs)
    return Call(
        model=text(found.model),
        stream=found.stream is True,
        fits=any(starts(item, b"[") for item in lists) or any(starts(t, b'"') for t in (found.message, found.prompt)),
        parameters=parameters(max_tokens=found.max_tokens, temperature=found.temperature, top_p=found.p),
    )


def read(data: bytes, answer: Answer) -> None:
    """A document, or one event of a stream, whose last one holds the whole answer (v1) or its end (v2)."""
    part = decode(_Part, data)
    if part is None:
        return
    for item in (part.response, part, part.delta):
        if item is not None:
            _take(item, answer)
    if answer.finish_reasons.get(0) in {"ERROR", "ERROR_TOXIC"}:
        answer.fail(answer.finish_reasons[0])


def _take(item: _Answer, answer: Answer) -> None:
    answer.name(None, item.response_id or item.id)
    answer.finish(0, item.finish_reason)
    for index, generation in enumerate(item.generations or ()):
        answer.finish(index, generation.finish_reason)
    answer.use(item.meta)
    answer.use(item.usage)


def usage(raw: Mapping[str, Any]) -> Usage:
    """What is billed; of answers that do not say, the model's tokens."""
    if billed := part_of(raw, "billed_units"):
        return Usage(
            input=tokens(billed.get("input_tokens")),
            output=tokens(billed.get("output_tokens")),
            image_input=tokens(billed.get("image_tokens")),
        )
    counted = part_of(raw, "tokens")
    return Usage(
        input=tokens(counted.get("input_tokens")),
        output=tokens(counted.get("output_tokens")),
        cache_read=tokens(raw.get("cached_tokens")),
    )


def sent(body: Any) -> Conversation:
    """Messages of a chat, or the one that version 1 has."""
    said = body.get("message")
    if not isinstance(said, str):
        return chat_sent(body)
    system = body.get("preamble")
    parts = [{"type": "text", "content": system}] if isinstance(system, str) else []
    return Conversation([{"role": "user", "parts": [{"type": "text", "content": said}]}], parts)


def received(parts: Sequence[Any]) -> list[Message]:
    """One message: of a document, of the whole answer that ends a stream of version 1, or of a stream's pieces."""
    said, reason, calls = "", "", []
    for part in parts:
        message = part_of(part, "message") or part_of(part_of(part, "delta"), "message")
        whole = part_of(part, "response") or ({} if "event_type" in part else part)
        said += _texts(message.get("content")) or text_of(whole.get("text"))
        tools = message.get("tool_calls")
        calls += [*map(_started, [tools] if isinstance(tools, Mapping) and "id" in tools else objects(tools))]
        if calls and isinstance(tools, Mapping) and "id" not in tools:
            calls[-1]["arguments"] += text_of(part_of(tools, "function").get("arguments"))
        end = text(part.get("finish_reason")) or text(part_of(part, "delta").get("finish_reason"))
        reason = end or reason
    pieces = ([{"type": "text", "content": said}] if said else []) + calls
    return [{"role": "assistant", "parts": pieces, "finish_reason": reason}] if pieces else []


def text_of(value: object) -> str:
    """``value`` if it is a text of any length, else an empty one."""
    return value if isinstance(value, str) else ""


def _texts(content: object) -> str:
    pieces = [content] if isinstance(content, Mapping) else objects(content)
    return "".join(text_of(piece.get("text")) for piece in pieces)


def _started(call: Mapping[str, Any]) -> Message:
    function = part_of(call, "function")
    arguments = text_of(function.get("arguments"))
    return {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": arguments}


_HOSTS = (_COHERE, "azure.ai.inference")

ENDPOINTS = (
    Endpoint("chat", _COHERE, "/v[12]/chat", call, read, usage, only=_HOSTS, sent=sent, received=received),
    Endpoint("text_completion", _COHERE, "/v1/(?:generate|summarize)", call, read, usage, only=_HOSTS),
    Endpoint("generate_content", _COHERE, "/v2/parse", call, read, usage, only=(_COHERE,)),
    Endpoint("embeddings", _COHERE, "/v[12]/embed", call, read, usage, only=_HOSTS),
)
