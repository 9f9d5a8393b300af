"""What travels between the stages after the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link

from otel_sessions.base.group import SpanGroup

Attributes = dict[str, Any]
"""All that a span says of itself, and what it was given on its way."""
Stage = Callable[[SpanGroup], Iterable[SpanGroup]]
"""Returns the same spans as they go on: in several groups if some get attributes that others do not."""
Encode = Callable[[Sequence[SpanGroup]], Any]
"""Spans as a piece of a body, bytes or a list: one after another, pieces are the encoding of all."""
Send = Callable[[Any, str], object]
"""Takes the body of a batch (spans, or pieces of bytes where the delivery encodes) and its token.

Raises StoreUnavailableError if the same call may succeed later; any other exception is taken as final.
"""
Confirm = Callable[[Iterable[bytes], str], bool]
"""Says whether the destination already holds the batch with this body and token."""
Finish = Callable[[], object]
"""Makes what has arrived ready to be read; called when a flush has sent everything."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where batches go: its name in the log, how to send, how to ask whether a batch has arrived, what to do at the end."""

    name: str
    send: Send
    confirm: Confirm | None = None
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in spans, age in seconds; see the settings of the same names. ``batch_bytes`` bounds an encoded batch."""

    queue_size: int = 65_536
    batch_size: int = 32_768
    batch_age_seconds: float = 1.0
    batch_bytes: int = 33_554_432


@dataclass(frozen=True, slots=True)
class Recipe:
    """How spans become a batch: the stages that they pass, the encoding, the limits.

    ``numbered`` spans say which of their session and process they are.
    """

    limits: Limits
    encode: Encode
    stages: tuple[Stage, ...] = ()
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Spans that are sent together, always under the same token.

    ``body`` is its pieces, as often as they are asked for, and ``size`` the sum of their lengths. ``on_disk`` tells
    whether it lies in the spool or only in memory. ``own`` is False for what a process that ended left behind.
    ``attempts`` counts the sends so far, ``attempted_at`` is the time of the last one in Unix seconds.
    """

    token: str
    spans: int
    body: Iterable[Any]
    size: int
    on_disk: bool = False
    own: bool = True
    attempts: int = 0
    attempted_at: float = 0.0

    def tried(self, now: float) -> Self:
        """The batch after one more attempt."""
        return replace(self, attempts=self.attempts + 1, attempted_at=now)


def remade(
    span: ReadableSpan, attributes: Mapping[str, Any] | None, events: Sequence[Event], links: Sequence[Link]
) -> ReadableSpan:
    """A copy of ``span`` that has these attributes, events and links instead of its own."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
