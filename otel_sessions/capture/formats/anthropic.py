"""Anthropic's wire format: messages, also through Vertex AI and Azure, and the text completions of old.

Usage (https://docs.anthropic.com/en/api/messages): ``input_tokens`` leaves cached reads and writes out, so they are
added. A stream states the input side in ``message_start``, with a guess at the output, and the cumulative output in
``message_delta``; the last value of each field stands, and of a stream that is cut off before that nothing counts: what
it wrote is not known. What a compaction inside the call cost stands in ``iterations`` alone, so it is added; an
advisor's tokens, there too, are billed as another model's and are not. Where a declined request was passed on to
another model, that one is said there to have answered. Text completions state no usage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Conversation,
    Endpoint,
    Message,
    Usage,
    decode,
    mapping,
    number,
    objects,
    parameters,
    part_of,
    plain,
    starts,
    text,
    tokens,
    total,
)


class _Request(msgspec.Struct):
    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_tokens_to_sample: Any = None
    temperature: Any = None
    top_p: Any = None
    service_tier: Any = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING


class _Message(msgspec.Struct):
    id: Any = None
    model: Any = None
    stop_reason: Any = None
    usage: msgspec.Raw = NOTHING


class _Event(_Message):
    type: Any = None
    message: _Message | None = None
    delta: _Message | None = None
    error: Any = None


def call(body: bytes) -> Call:
    """Body of a request for a message or a text completion."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    return Call(
        model=text(found.model),
        stream=found.stream is True,
        fits=isinstance(found.model, str) and (starts(found.messages, b"[") or starts(found.prompt, b'"')),
        parameters=parameters(
            max_tokens=found.max_tokens or found.max_tokens_to_sample,
            temperature=found.temperature,
            top_p=found.top_p,
            service_tier=found.service_tier,
        ),
    )


def vertex_call(body: bytes) -> Call:
    """Body of a request on Vertex AI; the model stands in the path."""
    found = decode(_Request, body)
    return Call() if found is None else structs.replace(call(body), fits=starts(found.messages, b"["))


def read(data: bytes, answer: Answer) -> None:
    """A message, or one event of its stream: ``message_start`` and ``message_delta`` carry what is wanted."""
    event = decode(_Event, data)
    if event is None:
        return
    if event.error:
        answer.fail(mapping(event.error).get("type"))
    if event.message is not None:
        answer.name(event.message.model, event.message.id)
        answer.begin(event.message.usage)
    for part in (event, event.delta):
        if part is not None:
            _take(part, answer)
    if answer.begun is not None:
        answer.settle()


def _take(part: _Message, answer: Answer) -> None:
    answer.name(part.model, part.id)
    answer.finish(0, part.stop_reason)
    if part.usage is not NOTHING:
        answer.use(part.usage, merge=True)
        if b'"fallback_message"' in bytes(part.usage):
            answer.model = _served_by(part.usage) or answer.model


def _served_by(usage: msgspec.Raw) -> str | None:
    """The model that took over from the one that the stream began with, by the last of the iterations."""
    iterations = objects(mapping(plain(bytes(usage))).get("iterations"))
    models = (item.get("model") for item in iterations if item.get("type") == "fallback_message")
    return next(filter(None, map(text, models)), None)


def usage(raw: Mapping[str, Any]) -> Usage:
    """Inclusive totals from Anthropic's exclusive ones."""
    billed = [raw, *(item for item in objects(raw.get("iterations")) if item.get("type") == "compaction")]
    fresh, cached = _sum(billed, "input_tokens"), _sum(billed, "cache_read_input_tokens")
    written = _sum(billed, "cache_creation_input_tokens")
    return Usage(
        input=None if fresh is None else total(fresh, cached, written),
        output=_sum(billed, "output_tokens"),
        cache_read=cached,
        cache_write=written,
        cache_write_1h=_sum([part_of(item, "cache_creation") for item in billed], "ephemeral_1h_input_tokens"),
        reasoning=tokens(part_of(raw, "output_tokens_details").get("thinking_tokens")),
        web_searches=tokens(part_of(raw, "server_tool_use").get("web_search_requests")),
        service_tier=text(raw.get("service_tier")),
        speed=text(raw.get("speed")),
        region=_region(raw),
        cost=_cost(raw),
    )


def _sum(items: Sequence[Mapping[str, Any]], key: str) -> int | None:
    return total(*(tokens(item.get(key)) for item in items))


def _region(raw: Mapping[str, Any]) -> str | None:
    """Where inference was kept (https://platform.claude.com/docs/en/manage-claude/data-residency); None for anywhere."""
    region = text(raw.get("inference_geo"))
    return None if region in _ANYWHERE else region


_ANYWHERE = ("global", "not_available")


def _cost(raw: Mapping[str, Any]) -> float | None:
    """USD, which OpenRouter states on this end point too."""
    cost = number(raw.get("cost"))
    return None if cost is None or cost < 0 else float(cost)


# Content


def _parts(content: object) -> list[Message]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(block) for block in objects(content)]


def _part(block: Mapping[str, Any]) -> Message:
    match block.get("type"):
        case "text":
            return {"type": "text", "content": block.get("text")}
        case "thinking":
            return {"type": "reasoning", "content": block.get("thinking")}
        case "tool_use" | "server_tool_use":
            return {
                "type": "tool_call",
                "id": block.get("id"),
                "name": block.get("name"),
                "arguments": block.get("input"),
            }
        case "tool_result":
            content = block.get("content")
            answer = content if isinstance(content, str) else _parts(content)
            return {"type": "tool_call_response", "id": block.get("tool_use_id"), "response": answer}
        case kind:
            return {"type": text(kind) or "unknown"}  # images and documents are named, not recorded


def sent(body: Any) -> Conversation:
    """System prompt and messages of a request."""
    found = [
        {"role": text(message.get("role")) or "user", "parts": _parts(message.get("content"))}
        for message in objects(body.get("messages"))
    ]
    return Conversation(found, _parts(body.get("system")))


def received(parts: Sequence[Any]) -> list[Message]:
    """The message of a document, or put together from the block events of a stream."""
    blocks: dict[Any, dict[str, Any]] = {}
    reason = ""
    for part in parts:
        if part.get("type") == "message":
            blocks = {index: dict(block) for index, block in enumerate(objects(part.get("content")))}
        _add_block(blocks, part)
        reason = text(part.get("stop_reason")) or text(part_of(part, "delta").get("stop_reason")) or reason
    if not blocks:
        return []
    return [{"role": "assistant", "parts": [_part(block) for block in blocks.values()], "finish_reason": reason}]


_DELTAS = {"text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking")}


def _add_block(blocks: dict[Any, dict[str, Any]], part: Mapping[str, Any]) -> None:
    index = tokens(part.get("index"))
    if part.get("type") == "content_block_start":
        blocks[index] = dict(part_of(part, "content_block"))
        return
    if part.get("type") != "content_block_delta" or index not in blocks:
        return
    block, delta = blocks[index], part_of(part, "delta")
    if delta.get("type") == "input_json_delta":
        before = block.get("input")
        block["input"] = (before if isinstance(before, str) else "") + str(delta.get("partial_json") or "")
    elif kind := _DELTAS.get(text(delta.get("type")) or ""):
        source, target = kind
        block[target] = str(block.get(target) or "") + str(delta.get(source) or "")


_VERTEX = "/publishers/anthropic/models/(?P<model>(?!count-tokens)[^/:]+)"

_ANTHROPIC = "anthropic"

_TELLING = re.compile(rb'"usage"|"stop_reason"|"error"')

ENDPOINTS = (
    Endpoint("chat", _ANTHROPIC, "/v1/messages", call, read, usage, telling=_TELLING, sent=sent, received=received),
    Endpoint("chat", _ANTHROPIC, f"{_VERTEX}:rawPredict", vertex_call, read, usage, sent=sent, received=received),
    Endpoint(
        "chat", _ANTHROPIC, f"{_VERTEX}:streamRawPredict", vertex_call, read, usage,
        streams=True, telling=_TELLING, sent=sent, received=received,
    ),
    Endpoint("text_completion", _ANTHROPIC, "/v1/complete", call, read, usage),
)  # fmt: skip
