"""Google's Interactions API and its decisions, beside generateContent.

Usage (https://ai.google.dev/api/interactions-api): as in generateContent, under other names: thoughts are counted
beside the output and what tools read beside the input. The events of a stream carry the interaction, the last one
with its usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from otel_sessions.capture.formats.gemini import billed_searches, different
from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Endpoint,
    Usage,
    decode,
    mapping,
    objects,
    parameters,
    starts,
    text,
    tokens,
    total,
)

_GEMINI = "gcp.gemini"


class _Config(msgspec.Struct):
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None


class _Request(msgspec.Struct):
    model: Any = None
    agent: Any = None
    stream: Any = None
    input: msgspec.Raw = NOTHING
    generation_config: _Config | None = None


class _Arguments(msgspec.Struct):
    queries: list[Any] | None = None


class _Step(msgspec.Struct):
    type: Any = None
    arguments: _Arguments | None = None


class _Interaction(msgspec.Struct):
    steps: list[_Step] | None = None
    outputs: list[_Step] | None = None
    id: Any = None
    model: Any = None
    status: Any = None
    usage: msgspec.Raw = NOTHING
    service_tier: Any = None
    error: Any = None


class _Event(_Interaction):
    interaction: _Interaction | None = None
    step: _Step | None = None
    delta: _Step | None = None


def call(body: bytes) -> Call:
    """Body of a request to a model or to an agent."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    config = found.generation_config or _Config()
    return Call(
        model=text(found.model) or text(found.agent),
        stream=found.stream is True,
        fits=starts(found.input, b"[", b"{", b'"'),
        parameters=parameters(max_tokens=config.max_output_tokens, temperature=config.temperature, top_p=config.top_p),
    )


def read(data: bytes, answer: Answer) -> None:
    """An interaction, or one event of its stream."""
    event = decode(_Event, data)
    if event is None:
        return
    found = event.interaction or event
    answer.name(found.model, found.id, found.service_tier)
    answer.use(found.usage)
    _search(event, found, answer)
    if found.status in _ENDS:
        answer.finish(0, found.status)
    if event.error or found.error:
        error = mapping(event.error or found.error)
        answer.fail(error.get("code"), error.get("status"))


def _search(event: _Event, found: _Interaction, answer: Answer) -> None:
    """What was searched for, for a usage that does not count it. A stream says it step by step, and perhaps at its end again."""
    whole = _queries([*(found.steps or ()), *(found.outputs or ())])
    made = whole or (answer.web_searches or 0) + _queries([event.step, event.delta])
    if made:
        answer.web_searches = billed_searches(made, answer.model)


def _queries(steps: Sequence[_Step | None]) -> int:
    calls = [step.arguments for step in steps if step is not None and step.type == "google_search_call"]
    return different(query for call in calls if call is not None for query in call.queries or ())


_ENDS = ("completed", "incomplete", "failed", "cancelled", "requires_action", "budget_exceeded")
"""A tuple, since a status may be anything, also what has no hash."""


def usage(raw: Mapping[str, Any]) -> Usage:
    """Inclusive totals."""
    thoughts = tokens(raw.get("total_thought_tokens"))
    given = (*objects(raw.get("input_tokens_by_modality")), *objects(raw.get("tool_use_tokens_by_modality")))
    made, cached = objects(raw.get("output_tokens_by_modality")), objects(raw.get("cached_tokens_by_modality"))
    searches = [item for item in objects(raw.get("grounding_tool_count")) if item.get("type") == "google_search"]
    return Usage(
        input=total(tokens(raw.get("total_input_tokens")), tokens(raw.get("total_tool_use_tokens"))),
        output=total(tokens(raw.get("total_output_tokens")), thoughts),
        cache_read=tokens(raw.get("total_cached_tokens")),
        reasoning=thoughts,
        audio_input=_of(given, "audio"),
        audio_output=_of(made, "audio"),
        image_input=_of(given, "image", "document"),
        image_output=_of(made, "image"),
        video_input=_of(given, "video"),
        video_output=_of(made, "video"),
        cached_audio=_of(cached, "audio"),
        cached_image=_of(cached, "image", "document"),
        web_searches=total(*(tokens(item.get("count")) for item in searches)),
    )


def _of(details: Sequence[Mapping[str, Any]], *modalities: str) -> int | None:
    found = (item for item in details if str(item.get("modality")).lower() in modalities)
    return total(*(tokens(item.get("tokens")) for item in found))


_GOOGLE = (_GEMINI, "gcp.vertex_ai")

ENDPOINTS = (Endpoint("generate_content", _GEMINI, "/(?:interactions|decisions)", call, read, usage, only=_GOOGLE),)
