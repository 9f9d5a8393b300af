"""Google's wire format: generateContent and embeddings, on the Gemini API and on Vertex AI.

Usage (https://ai.google.dev/api/generate-content#UsageMetadata): thoughts are counted beside the candidates and tool
results beside the prompt, so they are added; cached content is part of the prompt. Every chunk of a stream carries
the usage so far; the last one stands. A stream is SSE with ``alt=sse``, else one JSON array that grows. Up to Gemini
2.5 a grounded answer is billed once, from Gemini 3 on by its searches. Vertex AI's ``predict`` states tokens per
embedding; images that it makes are billed by the piece. The OpenAI-compatible end point counts thoughts, which are
billed as output, in ``total_tokens`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from otel_sessions.capture.formats import openai
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
    nothing_usual,
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
    instances: msgspec.Raw = NOTHING
    generation_config: _Config | None = None


class _Grounding(msgspec.Struct, rename="camel"):
    web_search_queries: Any = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: Any = None
    finish_reason: Any = None
    grounding_metadata: _Grounding | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = NOTHING
    model_version: Any = None
    response_id: Any = None
    predictions: Any = None
    prompt_feedback: Any = None
    error: Any = None


def call(body: bytes) -> Call:
    """Body of a request; the model stands in the path."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    config = found.generation_config or _Config()
    shapes = (found.contents, found.content, found.requests, found.instances)
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
        _search(candidate.grounding_metadata, answer)
    answer.finish(0, mapping(chunk.prompt_feedback).get("blockReason"))
    answer.use(chunk.usage_metadata)
    answer.use_counts({"token_count": total(*map(_embedded, objects(chunk.predictions)))})
    if chunk.error:
        error = mapping(chunk.error)
        answer.fail(error.get("status"), error.get("code"))


def _search(grounding: _Grounding | None, answer: Answer) -> None:
    queries = grounding.web_search_queries if grounding else None
    if made := different(queries if isinstance(queries, list) else ()):
        answer.web_searches = billed_searches(max(made, answer.web_searches or 0), answer.model)


def different(queries: Iterable[object]) -> int:
    """How many different texts there are."""
    return len({query for query in queries if isinstance(query, str) and query})


def billed_searches(made: int, model: str | None) -> int:
    """How many of the searches for an answer are billed: up to Gemini 2.5 one for all, then each."""
    return min(made, 1) if _BILLED_ONCE.search(model or "") else made


_BILLED_ONCE = re.compile(r"gemini-[12]\.")


def _embedded(prediction: Mapping[str, Any]) -> int | None:
    return tokens(part_of(part_of(prediction, "embeddings"), "statistics").get("token_count"))


def usage(raw: Mapping[str, Any]) -> Usage:
    """Inclusive totals from ``usageMetadata``."""
    thoughts = tokens(raw.get("thoughtsTokenCount"))
    # Embeddings have it as promptTokenDetails.
    prompts = raw.get("promptTokensDetails") or raw.get("promptTokenDetails")
    given = (*objects(prompts), *objects(raw.get("toolUsePromptTokensDetails")))
    made, cached = objects(raw.get("candidatesTokensDetails")), objects(raw.get("cacheTokensDetails"))
    prompt = total(tokens(raw.get("promptTokenCount")), tokens(raw.get("toolUsePromptTokenCount")))
    return Usage(
        input=tokens(raw.get("token_count")) if prompt is None else prompt,
        output=total(tokens(raw.get("candidatesTokenCount")), thoughts),
        cache_read=tokens(raw.get("cachedContentTokenCount")),
        reasoning=thoughts,
        audio_input=_of(given, "AUDIO"),
        audio_output=_of(made, "AUDIO"),
        image_input=_of(given, "IMAGE", "DOCUMENT"),
        image_output=_of(made, "IMAGE", "DOCUMENT"),
        video_input=_of(given, "VIDEO"),
        video_output=_of(made, "VIDEO"),
        cached_audio=_of(cached, "AUDIO"),
        cached_image=_of(cached, "IMAGE", "DOCUMENT"),
        service_tier=_tier(raw),
    )


def _of(details: Sequence[Mapping[str, Any]], *modalities: str) -> int | None:
    """Tokens of the modalities. A document's pages are read as images."""
    return total(*(tokens(item.get("tokenCount")) for item in details if item.get("modality") in modalities))


def _tier(raw: Mapping[str, Any]) -> str | None:
    """``flex``, ``priority`` and so on, as both services spell it."""
    stated = text(raw.get("serviceTier")) or text(raw.get("trafficType"))
    return stated.lower().removeprefix("on_demand_") if stated else None


def compatible_usage(raw: Mapping[str, Any]) -> Usage:
    """Of the OpenAI-compatible end point: what the total has beyond the prompt was written, shown or not."""
    found = openai.usage(raw)
    whole = tokens(raw.get("total_tokens"))
    hidden = whole is not None and found.output is not None and whole > (total(found.input, found.output) or 0)
    return msgspec.structs.replace(found, output=(whole or 0) - (found.input or 0)) if hidden else found


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
_GUEST = "/publishers/(?!google/|anthropic/|mistralai/)[^/]+/models/(?P<model>[^/:]+):(?:stream)?[rR]awPredict"
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
    Endpoint("embeddings", _GEMINI, "/(?P<model>[^/:]*(?:embed|gecko)[^/:]*):predict", call, read, usage),
    replace(
        openai.CHAT, provider=_GEMINI, usage=compatible_usage, usual=nothing_usual,
        only=(_GEMINI, "gcp.vertex_ai"),
    ),
    replace(openai.CHAT, provider="gcp.vertex_ai", path=_GUEST),
    Endpoint("generate_content", _GEMINI, "/(?P<model>imag[^/:]*):predict", call, read, usage),
)  # fmt: skip
