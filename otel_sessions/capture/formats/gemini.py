"""Google's wire format: generateContent and embedContent, on the Gemini API and on Vertex AI.

Usage (https://ai.google.dev/api/generate-content#UsageMetadata): thoughts are counted beside the candidates and tool
results beside the prompt, so they are added; cached content is part of the prompt. Every chunk of a stream carries
the usage so far; the last one stands. A stream is SSE with ``alt=sse``, else one JSON array that grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

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
    objects,
    parameters,
    part_of,
    starts,
    text,
    tokens,
    total,
)


class _Config(msgspec.Struct, rename="camel"):
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None


class _Request(msgspec.Struct, rename="camel"):
    contents: msgspec.Raw = NOTHING
    content: msgspec.Raw = NOTHING
    requests: msgspec.Raw = NOTHING
    generation_config: _Config | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: Any = None
    finish_reason: Any = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = NOTHING
    model_version: Any = None
    response_id: Any = None
    error: Any = None


def call(body: bytes) -> Call:
    """Body of a request; the model stands in the path."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    config = found.generation_config or _Config()
    shapes = (found.contents, found.content, found.requests)
    return Call(
        fits=any(starts(shape, b"[", b"{", b'"') for shape in shapes),
        parameters=parameters(max_tokens=config.max_output_tokens, temperature=config.temperature, top_p=config.top_p),
    )


def read(data: bytes, answer: Answer) -> None:
    """A response, or one chunk of a stream, which has the same shape."""
    chunk = decode(_Chunk, data)
    if chunk is None:
        return
    answer.name(chunk.model_version, chunk.response_id)
    for candidate in chunk.candidates or ():
        answer.finish(candidate.index, candidate.finish_reason)
    answer.use(chunk.usage_metadata)
    if chunk.error:
        error = mapping(chunk.error)
        answer.fail(error.get("status"), error.get("code"))


def usage(raw: Mapping[str, Any]) -> Usage:
    """Inclusive totals from ``usageMetadata``."""
    thoughts = tokens(raw.get("thoughtsTokenCount"))
    return Usage(
        input=total(tokens(raw.get("promptTokenCount")), tokens(raw.get("toolUsePromptTokenCount"))),
        output=total(tokens(raw.get("candidatesTokenCount")), thoughts),
        cache_read=tokens(raw.get("cachedContentTokenCount")),
        reasoning=thoughts,
        audio_input=_audio(raw.get("promptTokensDetails")),
        audio_output=_audio(raw.get("candidatesTokensDetails")),
    )


def _audio(details: object) -> int | None:
    return total(*(tokens(item.get("tokenCount")) for item in objects(details) if item.get("modality") == "AUDIO"))


# Content


def _parts(content: object) -> list[Message]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    if isinstance(content, list):
        return [part for item in content for part in _parts(item)]
    if not isinstance(content, Mapping):
        return []
    return [_part(part) for part in objects(content.get("parts"))] if "parts" in content else [_part(content)]


def _part(part: Mapping[str, Any]) -> Message:
    if isinstance(part.get("text"), str):
        return {"type": "reasoning" if part.get("thought") is True else "text", "content": part["text"]}
    if call := part_of(part, "functionCall"):
        return {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("args")}
    if answer := part_of(part, "functionResponse"):
        return {"type": "tool_call_response", "id": answer.get("id"), "response": answer.get("response")}
    return {"type": next(iter(part), "unknown")}  # inline data is named, not recorded


def sent(body: Any) -> Conversation:
    """Contents and system instruction of a request."""
    given = body.get("contents") or body.get("content")
    items = given if isinstance(given, list) else [given] if given else []
    found = [
        {"role": (text(item.get("role")) if isinstance(item, Mapping) else None) or "user", "parts": _parts(item)}
        for item in items
    ]
    return Conversation(found, _parts(body.get("systemInstruction") or body.get("system_instruction")))


def received(parts: Sequence[Any]) -> list[Message]:
    """One message per candidate, the texts of a stream's chunks joined."""
    found: dict[Any, Message] = {}
    for part in parts:
        for candidate in objects(part.get("candidates")):
            index = candidate.get("index") if isinstance(candidate.get("index"), int) else 0
            message = found.setdefault(index, {"role": "assistant", "parts": [], "finish_reason": ""})
            for piece in _parts(candidate.get("content")):
                _join(message["parts"], piece)
            message["finish_reason"] = text(candidate.get("finishReason")) or message["finish_reason"]
    return list(found.values())


def _join(parts: list[Message], piece: Message) -> None:
    if parts and "content" in piece and parts[-1].get("type") == piece["type"]:
        parts[-1]["content"] += piece["content"]
    else:
        parts.append(piece)


_MODEL = "/(?P<model>[^/:]+)"
_GEMINI = "gcp.gemini"

ENDPOINTS = (
    Endpoint(
        "generate_content", _GEMINI, f"{_MODEL}:generateContent", call, read, usage, sent=sent, received=received
    ),
    Endpoint(
        "generate_content", _GEMINI, f"{_MODEL}:streamGenerateContent", call, read, usage,
        streams=True, sent=sent, received=received,
    ),
    Endpoint("embeddings", _GEMINI, f"{_MODEL}:(?:embedContent|batchEmbedContents)", call, read, usage, sent=sent),
)  # fmt: skip
