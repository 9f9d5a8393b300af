"""Spans as one block of ``otel_traces``, built column by column.

Attribute values come out like the Collector's ``AsString()``: ``true``, decimal integers, shortest floats, arrays and
maps as JSON text, bytes as base64, None as the empty string.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import accumulate, chain, groupby, repeat
from typing import Any

import msgspec
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import DEFAULT_TRACE_STATE, Link, SpanContext, TraceState

from otel_sessions.base.group import SpanGroup, with_parts
from otel_sessions.base.values import copied
from otel_sessions.store import native
from otel_sessions.store.native import Column, FlatMaps

_KINDS = ("Internal", "Server", "Client", "Producer", "Consumer")
_STATUSES = ("Unset", "Ok", "Error")
_NO_CONTEXT = SpanContext(0, 0, is_remote=False)
_encoder = msgspec.json.Encoder()
_STRING_TUPLES = 256
_string_tuples: dict[tuple[str, ...], str] = {}

COLUMNS = (
    "Timestamp", "TraceId", "SpanId", "ParentSpanId", "TraceState", "SpanName", "SpanKind", "ServiceName",
    "ResourceAttributes", "ScopeName", "ScopeVersion", "SpanAttributes", "Duration", "StatusCode", "StatusMessage",
    "Events.Timestamp", "Events.Name", "Events.Attributes",
    "Links.TraceId", "Links.SpanId", "Links.TraceState", "Links.Attributes",
)  # fmt: skip
"""The columns of ``otel_traces`` that an insert fills; ClickHouse computes the others."""


def encode(groups: Sequence[SpanGroup]) -> bytes:
    """The block of the spans of ``groups``, in Native format, group after group. A span without an end ended when it started."""
    spans = [span for group in groups for span in group.spans]
    parts = with_parts(spans)
    columns = chain(
        _ids(spans), _facts(spans), _resources(spans), _scopes(spans), _events(spans, parts), _links(spans, parts),
        [native.maps("SpanAttributes", _maps(groups))],
    )  # fmt: skip
    by_name = {column.name: column for column in columns}
    return native.block([by_name[name] for name in COLUMNS], len(spans))


def _maps(groups: Sequence[SpanGroup]) -> FlatMaps:
    values = [native.rows_of_texts(list(map(_column_texts, group.columns.values()))) for group in groups]
    return FlatMaps([(tuple(group.columns), len(group)) for group in groups], b"".join(values))


def _column_texts(values: Sequence[Any]) -> Sequence[str]:
    with suppress(TypeError):  # not all of them are texts
        "".join(values)  # says so in a fifth of the time that the type of each takes
        return values
    kinds = set(map(type, values))
    if len(kinds) > 1:
        return [_TEXT[type(value)](value) for value in values]
    [kind] = kinds
    return _COLUMN_TEXTS[kind](values) if kind in _COLUMN_TEXTS else list(map(_TEXT[kind], values))


def _float_texts(values: Sequence[float]) -> list[str]:
    # The texts are the same but for exponents, what JSON cannot say, and integers.
    texts = _numbers(values)
    return [
        _float_text(value) if "e" in text or text == "null" else text.removesuffix(".0")
        for value, text in zip(values, texts, strict=True)
    ]


def _numbers(values: Sequence[float]) -> list[str]:
    """``values`` as JSON has them, in one call for all: a tenth of the time that ``repr`` takes for a float."""
    return _encoder.encode(values).decode()[1:-1].split(",")


def _ids(spans: Sequence[ReadableSpan]) -> Iterable[Column]:
    contexts = [span.context or _NO_CONTEXT for span in spans]
    parents = [span.parent for span in spans]
    yield native.hexadecimals("TraceId", [context.trace_id for context in contexts], 16)
    yield native.hexadecimals("SpanId", [context.span_id for context in contexts], 8)
    yield native.hexadecimals("ParentSpanId", [parent.span_id if parent else None for parent in parents], 8)
    yield native.strings("TraceState", _states([context.trace_state for context in contexts]))


def _states(states: Sequence[TraceState]) -> list[str]:
    return ["" if state is DEFAULT_TRACE_STATE else state.to_header() for state in states]


def _facts(spans: Sequence[ReadableSpan]) -> Iterable[Column]:
    starts = [span.start_time or 0 for span in spans]
    yield native.timestamps("Timestamp", starts)
    durations = [(span.end_time or start) - start for span, start in zip(spans, starts, strict=True)]
    # A clock that went backwards must not become 584 years.
    yield native.unsigned("Duration", durations if min(durations) >= 0 else [max(0, value) for value in durations])
    yield native.low_cardinality("SpanName", [span.name for span in spans])
    # The sunder: ``value`` of an enum's member is a property in Python, which takes ten times as long.
    yield native.low_cardinality("SpanKind", [_KINDS[span.kind._value_] for span in spans])
    statuses = [span.status for span in spans]
    yield native.low_cardinality("StatusCode", [_STATUSES[status.status_code._value_] for status in statuses])
    yield native.strings("StatusMessage", [status.description or "" for status in statuses])


def _resources(spans: Sequence[ReadableSpan]) -> Iterable[Column]:
    # A batch has one resource or a few: each is turned into text once.
    runs = [
        (_texts(resource.attributes), len(list(same))) for resource, same in groupby(span.resource for span in spans)
    ]
    services = chain.from_iterable(repeat(texts.get("service.name", ""), times) for texts, times in runs)
    yield native.low_cardinality("ServiceName", list(services))
    values = b"".join(native.texts(tuple(texts.values())) * times for texts, times in runs)
    yield native.maps("ResourceAttributes", FlatMaps([(tuple(texts), times) for texts, times in runs], values))


def _scopes(spans: Sequence[ReadableSpan]) -> Iterable[Column]:
    scopes = [span.instrumentation_scope for span in spans]
    yield native.strings("ScopeName", [scope.name or "" if scope else "" for scope in scopes])
    yield native.strings("ScopeVersion", [scope.version or "" if scope else "" for scope in scopes])


def _events(spans: Sequence[ReadableSpan], parts: Sequence[int]) -> Iterable[Column]:
    per_span: list[Sequence[Event]] = [()] * len(spans)
    for at in parts:
        per_span[at] = spans[at].events
    ends = list(accumulate(map(len, per_span)))
    events = list(chain.from_iterable(per_span))
    yield native.timestamp_arrays("Events.Timestamp", ends, [event.timestamp for event in events])
    yield native.low_cardinality_arrays("Events.Name", ends, [event.name for event in events])
    yield native.map_arrays("Events.Attributes", ends, _flat(event.attributes for event in events))


def _links(spans: Sequence[ReadableSpan], parts: Sequence[int]) -> Iterable[Column]:
    per_span: list[Sequence[Link]] = [()] * len(spans)
    for at in parts:
        per_span[at] = spans[at].links
    ends = list(accumulate(map(len, per_span)))
    links = list(chain.from_iterable(per_span))
    yield native.string_arrays("Links.TraceId", ends, [f"{link.context.trace_id:032x}" for link in links])
    yield native.string_arrays("Links.SpanId", ends, [f"{link.context.span_id:016x}" for link in links])
    yield native.string_arrays("Links.TraceState", ends, _states([link.context.trace_state for link in links]))
    yield native.map_arrays("Links.Attributes", ends, _flat(link.attributes for link in links))


def _flat(attributes: Iterable[Mapping[str, Any] | None]) -> FlatMaps:
    texts = [_texts(each) for each in attributes]
    values = tuple(chain.from_iterable(each.values() for each in texts))
    return FlatMaps([(tuple(each), 1) for each in texts], native.texts(values))


def _texts(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: _TEXT[type(value)](value) for key, value in copied(attributes).items()}


def _float_text(value: float) -> str:
    """Shortest decimal text, written as JSON in Go: exponents only below 1e-6 and from 1e21 on, ``1.0`` as ``1``."""
    text = repr(value)
    if not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if "e" not in text:
        return text.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"


def _tuple_text(value: tuple[Any, ...]) -> str:
    # The same few tuples come all the time: finish reasons.
    try:
        return _string_tuples[value]
    except (KeyError, TypeError):
        text = _json_text(value)
    if len(_string_tuples) < _STRING_TUPLES and set(map(type, value)) == {str}:
        _string_tuples[value] = text
    return text


def _json_text(value: Mapping[str, Any] | Sequence[Any]) -> str:
    if set(map(type, value)) == {str} and not isinstance(value, Mapping):
        with suppress(UnicodeEncodeError):
            return _encoder.encode(value).decode()
    return json.dumps(_jsonable(value), ensure_ascii=False, separators=(",", ":"))


def _jsonable(value: Any) -> Any:
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            # Integral floats lose their fraction as they do in the Collector; NaN has no JSON.
            return int(value) if value.is_integer() and abs(value) < 1e21 else value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _jsonable(item) for key, item in value.items()}
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case Sequence():
            return [_jsonable(item) for item in value]
        case _:
            return str(value)


def _other_text(value: Any) -> str:
    """A subclass of what an attribute may be, or what no attribute should be."""
    for kind, convert in tuple(_TEXT.items()):
        if isinstance(value, kind):
            return convert(value)
    return _json_text(value) if isinstance(value, (Mapping, Sequence)) else str(value)


class _Conversions(dict[type, Callable[[Any], str]]):
    def __missing__(self, kind: type) -> Callable[[Any], str]:
        return _other_text


_COLUMN_TEXTS: dict[type, Callable[[Sequence[Any]], list[str]]] = {int: _numbers, float: _float_texts}
_TEXT = _Conversions(
    {
        str: str.__str__,  # of a subclass the text itself, not what it calls itself: OTLP has it so
        bool: lambda value: "true" if value else "false",
        int: int.__repr__,
        float: _float_text,
        tuple: _tuple_text,
        type(None): lambda _: "",
        bytes: lambda value: base64.b64encode(value).decode(),
        bytearray: lambda value: base64.b64encode(value).decode(),
    }
)
