"""Spans as rows of ``otel_traces``, in the text that ClickHouse reads fastest from Python: one JSON object per line.

Attribute values come out like the Collector's ``AsString()``: ``true``, decimal integers, shortest floats, arrays and
maps as JSON text, bytes as base64, None as the empty string. Booleans and integers go through as JSON and become
strings in ClickHouse, so that the usual span costs no Python loop over its attributes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, cast

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

JsonLines = bytes

_KINDS = ("Internal", "Server", "Client", "Producer", "Consumer")
_STATUSES = ("Unset", "Ok", "Error")
_PLAIN = frozenset({str, int, bool})
_NO_ATTRIBUTES: dict[str, Any] = {}
# Integers that the msgspec encoder takes; longer ones travel as text.
_LARGEST_INTEGER = 2**64 - 1
_SMALLEST_INTEGER = -(2**63)

READ_SETTINGS: Mapping[str, str] = {
    "input_format_json_read_numbers_as_strings": "1",
    "input_format_json_read_bools_as_strings": "1",
    "input_format_null_as_default": "1",
}
"""What ClickHouse needs to know to read the lines."""


class _Row(msgspec.Struct, rename="pascal", omit_defaults=True, gc=False):
    timestamp: str
    trace_id: str
    span_id: str
    parent_span_id: str
    trace_state: str
    span_name: str
    span_kind: str
    service_name: str
    resource_attributes: msgspec.Raw
    scope_name: str
    scope_version: str
    span_attributes: dict[str, Any]
    duration: int
    status_code: str
    status_message: str
    event_timestamps: list[str] = msgspec.field(name="Events.Timestamp", default_factory=list)
    event_names: list[str] = msgspec.field(name="Events.Name", default_factory=list)
    event_attributes: list[dict[str, Any]] = msgspec.field(name="Events.Attributes", default_factory=list)
    link_trace_ids: list[str] = msgspec.field(name="Links.TraceId", default_factory=list)
    link_span_ids: list[str] = msgspec.field(name="Links.SpanId", default_factory=list)
    link_trace_states: list[str] = msgspec.field(name="Links.TraceState", default_factory=list)
    link_attributes: list[dict[str, Any]] = msgspec.field(name="Links.Attributes", default_factory=list)


COLUMNS: tuple[str, ...] = tuple(field.encode_name for field in msgspec.structs.fields(_Row))
"""The columns of ``otel_traces`` that an insert fills; the others are computed by ClickHouse."""

_encoder = msgspec.json.Encoder()


def encode(spans: Sequence[ReadableSpan]) -> JsonLines:
    """One line per span. Spans that have not ended count as ended when they started."""
    resources: dict[int, tuple[str, msgspec.Raw]] = {}
    rows = []
    for span in spans:
        resource = span.resource
        encoded = resources.get(id(resource))
        if encoded is None:
            encoded = resources[id(resource)] = _resource(resource)
        rows.append(_row(span, *encoded))
    try:
        return _encoder.encode_lines(rows)
    except (OverflowError, UnicodeEncodeError, TypeError, ValueError):
        return b"\n".join(map(_encode_hostile, rows))


def _row(span: ReadableSpan, service_name: str, resource_attributes: msgspec.Raw) -> _Row:
    context = span.context
    parent = span.parent
    scope = span.instrumentation_scope
    status = span.status
    start = span.start_time or 0
    row = _Row(
        _timestamp(start),
        f"{context.trace_id:032x}" if context else "",
        f"{context.span_id:016x}" if context else "",
        f"{parent.span_id:016x}" if parent else "",
        context.trace_state.to_header() if context and context.trace_state else "",
        span.name,
        _KINDS[span.kind.value],
        service_name,
        resource_attributes,
        (scope.name or "") if scope else "",
        (scope.version or "") if scope else "",
        _attributes(span.attributes),
        max(0, (span.end_time or start) - start),
        _STATUSES[status.status_code.value],
        status.description or "",
    )
    if events := span.events:
        row.event_timestamps = [_timestamp(event.timestamp) for event in events]
        row.event_names = [event.name for event in events]
        row.event_attributes = [_attributes(event.attributes) for event in events]
    if links := span.links:
        row.link_trace_ids = [f"{link.context.trace_id:032x}" for link in links]
        row.link_span_ids = [f"{link.context.span_id:016x}" for link in links]
        row.link_trace_states = [link.context.trace_state.to_header() for link in links]
        row.link_attributes = [_attributes(link.attributes) for link in links]
    return row


def _resource(resource: Resource) -> tuple[str, msgspec.Raw]:
    attributes = {_clean(key): _clean(_text(value)) for key, value in resource.attributes.items()}
    return attributes.get("service.name", ""), msgspec.Raw(_encoder.encode(attributes))


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    if not attributes:
        return _NO_ATTRIBUTES
    # copy() of the SDK's containers is one C call; iterating them is a Python call per key.
    copied = cast("dict[str, Any]", attributes.copy() if hasattr(attributes, "copy") else dict(attributes))
    if _PLAIN.issuperset(map(type, copied.values())):
        return copied
    return {key: value if type(value) in _PLAIN else _text(value) for key, value in copied.items()}


def _timestamp(nanoseconds: int) -> str:
    # Unix seconds with a fraction: an integer would be read as seconds by some servers, as ticks by others.
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{seconds}.{fraction:09d}"


def _text(value: Any) -> str:
    """One attribute value as the Collector writes it."""
    convert = _CONVERSIONS.get(type(value))
    if convert is not None:
        return convert(value)
    if isinstance(value, (Mapping, Sequence)):
        return _json_text(value)
    return str(value)


def _float_text(value: float) -> str:
    """Shortest decimal text, written as JSON in Go: exponents only below 1e-6 and from 1e21 on, ``1.0`` as ``1``."""
    text = repr(value)
    if "e" not in text and math.isfinite(value):
        return text.removesuffix(".0")
    if not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"


def _json_text(value: Mapping[str, Any] | Sequence[Any]) -> str:
    if type(value) is tuple and set(map(type, value)) == {str}:
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


_CONVERSIONS: Mapping[type, Callable[[Any], str]] = {
    str: str,
    float: _float_text,
    tuple: _json_text,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "",
    bytes: lambda value: base64.b64encode(value).decode(),
    bytearray: lambda value: base64.b64encode(value).decode(),
}


def _encode_hostile(row: _Row) -> bytes:
    """The line of a row that may hold lone surrogates or integers beyond 64 bits."""
    values = {name: getattr(row, field) for field, name in zip(_Row.__struct_fields__, COLUMNS, strict=True)}
    return _encoder.encode({name: _harmless(value) for name, value in values.items() if value != []})


def _harmless(value: Any) -> Any:
    match value:
        case bool() | msgspec.Raw():
            return value
        case int():
            return value if _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER else str(value)
        case str():
            return _clean(value)
        case dict():
            return {_clean(str(key)): _harmless(item) for key, item in value.items()}
        case list():
            return [_harmless(item) for item in value]
        case _:
            return _clean(_text(value))


def _clean(text: str) -> str:
    """``text`` without lone surrogates, which have no UTF-8; each becomes U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
