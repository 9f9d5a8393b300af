"""Gigantic attribute values are cut, so that one span can fill neither memory nor disk nor an insert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link

from otel_sessions.base.guard import count
from otel_sessions.delivery.batch import Stage, remade

MAX_VALUE = 1_048_576
"""Longest attribute value in characters (bytes: in bytes; arrays and maps: all their texts together)."""

_FIXED = frozenset({int, float, bool, type(None)})


def cutting(most: int = MAX_VALUE) -> Stage:
    """The stage that cuts attribute values at ``most`` characters, on spans, their events and their links."""
    return partial(cut_span, most=most)


def cut_span(span: ReadableSpan, most: int) -> ReadableSpan:
    """``span`` itself if nothing in it is too long, which costs no copy; else a copy with the values cut."""
    # Each of these properties makes a new object whenever it is asked, of events and links in Python; most spans have none.
    given = span.attributes
    given_events = span.events if span._events else ()  # noqa: SLF001
    given_links = span.links if span._links else ()  # noqa: SLF001
    attributes = _cut_attributes(given, most)
    events = [_cut_event(event, most) for event in given_events] if given_events else ()
    links = [_cut_link(link, most) for link in given_links] if given_links else ()
    if attributes is given and _same(events, given_events) and _same(links, given_links):
        return span
    count("attribute.cut", "otel-sessions: attribute values longer than %d characters are cut", most)
    return remade(span, attributes, events, links)


def _same(new: Sequence[Any], old: Sequence[Any]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))


def _cut_event(event: Event, most: int) -> Event:
    given = event.attributes
    attributes = _cut_attributes(given, most)
    return event if attributes is given else Event(event.name, attributes, event.timestamp)


def _cut_link(link: Link, most: int) -> Link:
    given = link.attributes
    attributes = _cut_attributes(given, most)
    return link if attributes is given else Link(link.context, attributes)


def _cut_attributes(attributes: Mapping[str, Any] | None, most: int) -> Mapping[str, Any] | None:
    if not attributes:
        return attributes
    # copy() of the SDK's containers is one C call; iterating them is a Python call per key.
    copied: dict[str, Any] = attributes.copy() if hasattr(attributes, "copy") else dict(attributes)
    long = [
        key
        for key, value in copied.items()
        if (
            len(value) > most
            if value.__class__ is str
            else value.__class__ not in _FIXED and _length(value, most) > most
        )
    ]
    if not long:
        return attributes
    return copied | {key: _cut(copied[key], most) for key in long}


def _length(value: Any, most: int) -> int:
    """Characters in ``value``; counting stops soon after ``most``."""
    # The usual classes first: to ask an abstract one takes ten times as long.
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(value, (tuple, list)):
        parts: Sequence[Any] = value
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    else:
        parts = value if isinstance(value, Sequence) else ()
    length = len(parts)
    for part in parts:
        if length > most:
            break
        length += _length(part, most)
    return length


def _cut(value: Any, most: int) -> str | bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value[:most])
    if isinstance(value, str):
        return f"{value[:most]}… (cut, {len(value)} characters)"
    return f"(cut, a {type(value).__name__} of more than {most} characters)"
