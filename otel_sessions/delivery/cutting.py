"""Gigantic attribute values are cut, so that one span can fill neither memory nor disk nor an insert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link

from otel_sessions.base.group import SpanGroup, with_parts
from otel_sessions.base.guard import count
from otel_sessions.base.values import copied
from otel_sessions.delivery.batch import Stage, remade

MAX_VALUE = 1_048_576
"""Longest attribute value in characters (bytes: in bytes; arrays and maps: all their texts together)."""

_FIXED = frozenset({int, float, bool, type(None)})


def cutting(most: int = MAX_VALUE) -> Stage:
    """The stage that cuts attribute values at ``most`` characters, on spans, their events and their links."""
    return partial(cut_group, most=most)


def cut_group(group: SpanGroup, most: int) -> tuple[SpanGroup]:
    """``group`` without values that are too long, and itself where there are none; counts the spans that have some."""
    columns = {name: values for name, values in group.columns.items() if _has_long(values, most)}
    spans = list(group.spans)
    for at in with_parts(spans):
        spans[at] = _cut_parts(spans[at], most)
    cut = {at for at, (new, old) in enumerate(zip(spans, group.spans, strict=True)) if new is not old}
    cut |= {at for values in columns.values() for at, value in enumerate(values) if _is_long(value, most)}
    for _ in cut:
        count("attribute.cut", "otel-sessions: attribute values longer than %d characters are cut", most)
    if not cut:
        return (group,)
    return (
        SpanGroup(spans, group.columns).given(
            {
                name: [_cut(value, most) if _is_long(value, most) else value for value in values]
                for name, values in columns.items()
            }
        ),
    )


def _cut_parts(span: ReadableSpan, most: int) -> ReadableSpan:
    given_events, given_links = span.events, span.links
    events = [_cut_event(event, most) for event in given_events]
    links = [_cut_link(link, most) for link in given_links]
    pairs = zip((*events, *links), (*given_events, *given_links), strict=True)
    return span if all(new is old for new, old in pairs) else remade(span, span.attributes, events, links)


def _cut_event(event: Event, most: int) -> Event:
    given = event.attributes
    attributes = _cut_attributes(given, most)
    return event if attributes is given else Event(event.name, attributes, event.timestamp)


def _cut_link(link: Link, most: int) -> Link:
    given = link.attributes
    attributes = _cut_attributes(given, most)
    return link if attributes is given else Link(link.context, attributes)


def _cut_attributes(given: Mapping[str, Any] | None, most: int) -> Mapping[str, Any] | None:
    """``given`` itself if nothing in it is too long."""
    attributes = copied(given)
    long = [key for key, value in attributes.items() if _is_long(value, most)]
    return attributes | {key: _cut(attributes[key], most) for key in long} if long else given


def _has_long(values: Sequence[Any], most: int) -> bool:
    with suppress(TypeError):  # not all of them are texts
        # All together takes a sixth of the time that the type and length of each take, and is nearly always enough.
        if len("".join(values)) <= most:
            return False
    return not _FIXED.issuperset(map(type, values)) and any(_is_long(value, most) for value in values)


def _is_long(value: Any, most: int) -> bool:
    return value.__class__ not in _FIXED and _length(value, most) > most


def _length(value: Any, most: int) -> int:
    """Characters in ``value``; counting stops soon after ``most``."""
    # The usual classes first: to ask an abstract one takes ten times as long.
    if value.__class__ is tuple or isinstance(value, list):
        parts: Sequence[Any] = value
    elif isinstance(value, (str, bytes, bytearray)):
        return len(value)
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    else:
        parts = value if isinstance(value, Sequence) else ()
    length = len(parts)
    for part in parts:
        if length > most:
            break
        length += len(part) if part.__class__ is str else _length(part, most)
    return length


def _cut(value: Any, most: int) -> str | bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value[:most])
    if isinstance(value, str):
        return f"{value[:most]}… (cut, {len(value)} characters)"
    return f"(cut, a {type(value).__name__} of more than {most} characters)"
