"""Gigantic attribute values are cut, so that one span can fill neither memory nor disk nor an insert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link

from otel_sessions.base.guard import count
from otel_sessions.base.values import copied
from otel_sessions.delivery.batch import Attributes, Stage, remade

MAX_VALUE = 1_048_576
"""Longest attribute value in characters (bytes: in bytes; arrays and maps: all their texts together)."""

_FIXED = frozenset({int, float, bool, type(None)})


def cutting(most: int = MAX_VALUE) -> Stage:
    """The stage that cuts attribute values at ``most`` characters, on spans, their events and their links."""
    return partial(cut_span, most=most)


def cut_span(span: ReadableSpan, attributes: Attributes, most: int) -> ReadableSpan:
    """Cut ``attributes``; return ``span``, or a copy of it if something in its events or links had to be cut."""
    long = _too_long(attributes, most)
    if long:
        attributes |= {key: _cut(attributes[key], most) for key in long}
    cut = _cut_parts(span, attributes, most) if span._events or span._links else span  # noqa: SLF001 - properties that copy
    if long or cut is not span:
        count("attribute.cut", "otel-sessions: attribute values longer than %d characters are cut", most)
    return cut


def _cut_parts(span: ReadableSpan, attributes: Attributes, most: int) -> ReadableSpan:
    given_events, given_links = span.events, span.links
    events = [_cut_event(event, most) for event in given_events]
    links = [_cut_link(link, most) for link in given_links]
    pairs = zip((*events, *links), (*given_events, *given_links), strict=True)
    return span if all(new is old for new, old in pairs) else remade(span, attributes, events, links)


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
    long = _too_long(attributes, most)
    return attributes | {key: _cut(attributes[key], most) for key in long} if long else given


def _too_long(attributes: Attributes, most: int) -> list[str]:
    # Without the names first, and without functions: this looks at every value of every span.
    for value in attributes.values():
        if value.__class__ is str:
            if len(value) > most:
                break
        elif value.__class__ not in _FIXED and _length(value, most) > most:
            break
    else:
        return []
    return [key for key, value in attributes.items() if value.__class__ not in _FIXED and _length(value, most) > most]


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
