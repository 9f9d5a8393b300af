"""Spans with fixed ids and a fixed clock, as a tracer provider would hand them to an exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

SECOND = 1_000_000_000
START = 1_767_225_600 * SECOND
"""2026-01-01 00:00:00 UTC in nanoseconds."""

SERVICE = Resource({"service.name": "support"})


def span(
    number: int = 1,
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str = "span",
    start: float = 0.0,
    seconds: float = 1.0,
    trace: int = 0xABC,
    parent: int | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    status: Status | None = None,
    resource: Resource = SERVICE,
    scope: InstrumentationScope | None = None,
    events: Sequence[Event] = (),
    links: Sequence[Link] = (),
) -> ReadableSpan:
    """A span with id ``number`` that starts ``start`` seconds after START and lasts ``seconds``."""
    begin = START + round(start * SECOND)
    return ReadableSpan(
        name=name,
        context=context(number, trace),
        parent=context(parent, trace) if parent else None,
        resource=resource,
        attributes=BoundedAttributes(attributes=attributes or {}),
        events=events,
        links=links,
        kind=kind,
        instrumentation_scope=scope or InstrumentationScope("otel_sessions", "1"),
        status=status or Status(StatusCode.UNSET),
        start_time=begin,
        end_time=begin + round(seconds * SECOND),
    )


def written(literal: Mapping[str, Any], service: str = "agent") -> ReadableSpan:
    """A span that ``golden_agent.py`` printed."""
    trace, number, parent = (int(literal[name] or "0", 16) for name in ("trace", "id", "parent"))
    return ReadableSpan(
        name=literal["name"],
        context=context(number, trace),
        parent=context(parent, trace) if parent else None,
        resource=Resource({"service.name": service}),
        attributes=literal["attributes"],
        events=[Event(name, attributes, time) for name, time, attributes in literal["events"]],
        kind=SpanKind[literal["kind"]],
        instrumentation_scope=InstrumentationScope(literal["scope"]),
        status=Status(StatusCode[literal["status"]]),
        start_time=literal["start"],
        end_time=literal["end"],
    )


def context(number: int, trace: int = 0xABC) -> SpanContext:
    """The span context with these ids, sampled."""
    return SpanContext(trace, number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def call(
    number: int = 1,
    session: str = "s1",
    path: str = "/",
    *,
    input_tokens: int | None = 100,
    output_tokens: int | None = 10,
    cost: float | str | None = None,
    more: Mapping[str, Any] | None = None,
    **rest: Any,
) -> ReadableSpan:
    """The span of an LLM call to gpt-4o at ``path`` of ``session``."""
    attributes: dict[str, Any] = {
        "session.id": session,
        "session.path": path,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
        "gen_ai.usage.cost": cost,
        "otel_sessions.cost.status": "priced" if cost is not None else None,
        **(more or {}),
    }
    present = {key: value for key, value in attributes.items() if value is not None}
    return span(number, present, name="chat gpt-4o", kind=SpanKind.CLIENT, **rest)
