"""Spans that wait in a long queue: as bytes, which the garbage collector need not visit."""

from __future__ import annotations

import enum
import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_sessions.delivery import packing
from otel_sessions.delivery.intake import LOOSE, Intake
from otel_sessions.delivery.packing import pack, unpack

RESOURCE = Resource({"service.name": "tests"})
FACTS = (
    "name", "context", "parent", "resource", "attributes", "kind", "status", "start_time", "end_time",
    "instrumentation_scope",
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=()))
atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary()
values = atoms | st.lists(atoms).map(tuple) | st.dictionaries(texts, atoms)
attributes = st.dictionaries(texts, values)


def context(number: int, **more: Any) -> SpanContext:
    return SpanContext(number, number, **{"is_remote": False, **more})


def facts(span: ReadableSpan) -> tuple[Any, ...]:
    """All that a span says, comparable."""
    told = [getattr(span, name) for name in FACTS if name != "status"]
    status = span.status.status_code, span.status.description
    events = [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events]
    return *told, status, events, [(link.context, dict(link.attributes or {})) for link in span.links]


@given(texts, attributes, attributes, texts)
def test_a_packed_span_comes_out_equal(name: str, given: dict[str, Any], more: dict[str, Any], text: str) -> None:
    """Whatever attributes, events and links say, a span that was packed says the same."""
    state = TraceState([("vendor", "1")])
    span = ReadableSpan(
        name,
        context(2**127 + 1, trace_flags=TraceFlags(TraceFlags.SAMPLED), trace_state=state),
        parent=context(2**63, is_remote=True),
        resource=RESOURCE,
        attributes=given,
        events=(Event("e", more, 5), Event(text, None, 6)),
        links=(Link(context(7, trace_state=state), more), Link(context(8))),
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR, text),
        start_time=10**18,
        end_time=10**18 + 1,
        instrumentation_scope=InstrumentationScope("scope", "1", None, {"a": 1}),
    )
    packed = pack(span)
    assert isinstance(packed, bytes)
    assert facts(unpack(packed)) == facts(span)


def test_a_bare_span_comes_out_equal() -> None:
    """A span without anything that may be missing."""
    span = ReadableSpan("bare", resource=RESOURCE)
    packed = pack(span)
    assert isinstance(packed, bytes)
    assert facts(unpack(packed)) == facts(span)


class Level(enum.IntEnum):
    HIGH = 1


@pytest.mark.parametrize("value", [Level.HIGH, object(), {"nested": object()}])
def test_values_of_other_types_stay_as_they_are(value: object) -> None:
    """A span that bytes cannot tell waits as it is."""
    span = ReadableSpan("odd", context(1), resource=RESOURCE, attributes={"value": value})  # type: ignore[dict-item]
    assert pack(span) is span
    assert unpack(span) is span


def test_counts_of_what_was_left_out_are_kept() -> None:
    """A span of which the SDK has dropped attributes waits as it is, with its counts."""
    seen: list[ReadableSpan] = []
    provider = TracerProvider(span_limits=SpanLimits(max_attributes=1), shutdown_on_exit=False)
    span = provider.get_tracer("tests").start_span("cut", attributes={"a": 1, "b": 2})
    span.end()
    seen.append(span)  # type: ignore[arg-type] # the SDK's span is readable
    assert seen[0].dropped_attributes == 1
    assert pack(seen[0]) is seen[0]


def test_resources_without_end_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone who makes a resource per span does not fill our memory with them."""
    monkeypatch.setattr(packing, "_resources", {})
    spans = [ReadableSpan("x", context(1), resource=Resource({"number": number})) for number in range(100)]
    packed = [pack(span) for span in spans]
    assert [unpack(one).resource for one in packed] == [span.resource for span in spans]
    assert sum(isinstance(one, bytes) for one in packed) == len(packing._resources) < 100


def test_a_long_queue_is_no_work_for_the_garbage_collector() -> None:
    """With 20,000 spans waiting, the collector has as many containers to visit as with the first 1,024."""
    intake = Intake(30_000)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    given = {f"key{number}": "value" for number in range(20)} | {"reasons": ("stop",)}

    def offer(spans: int) -> int:
        for number in range(spans):
            span = tracer.start_span(str(number), attributes=given)
            span.end()
            intake.offer(span)  # type: ignore[arg-type] # the SDK's span is readable
        del span
        gc.collect()
        return len(gc.get_objects())

    first = offer(LOOSE)
    assert offer(20_000) < first + 100
    assert len(intake) == LOOSE + 20_000
