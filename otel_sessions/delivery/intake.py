"""The bounded queue: the only part of the delivery that runs on the host's threads."""

from __future__ import annotations

from collections import Counter, deque
from threading import get_ident
from typing import TypeVar

from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base import names
from otel_sessions.delivery.packing import Waiting, pack

LOOSE = 1_024
"""Spans that wait as they are; those behind them are packed, which costs their threads about 5 µs each."""
_MAX_SESSIONS = 10_000
_Key = TypeVar("_Key")


class Intake:
    """Takes spans from any thread without a lock and without waiting; refuses what is beyond its room.

    ``size`` is how many spans may be in memory, here and in the stages that follow.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._room = size
        self._spans: deque[Waiting] = deque()
        self._refused: dict[tuple[int, str], int] = {}
        self._refused_of: dict[tuple[int, str | None], int] = {}

    def __len__(self) -> int:
        return len(self._spans)

    def offer(self, span: ReadableSpan) -> int:
        """Take ``span`` and return how many wait now; 0 if there was no room for it."""
        waiting = len(self._spans)
        if waiting >= self._room:
            self.refuse(span, "queue_full")
            return 0
        self._spans.append(span if waiting < LOOSE else pack(span))
        return waiting + 1

    def leave_room_for(self, held: int) -> None:
        """The stages that follow hold so many spans in memory now."""
        self._room = self._size - held

    def refuse(self, span: ReadableSpan, reason: str) -> None:
        """Count a span that was not taken, by reason and by session.

        Each thread counts for itself: a counter that all share would need a lock on the host's way.
        """
        thread = get_ident()
        _add_one(self._refused, (thread, reason))
        session = (span.attributes or {}).get(names.SESSION_ID)
        known = isinstance(session, str) and len(self._refused_of) < _MAX_SESSIONS
        _add_one(self._refused_of, (thread, str(session) if known else None))

    def refused(self) -> Counter[str]:
        """How many spans were not taken so far, by reason."""
        counts: Counter[str] = Counter()
        for (_, reason), spans in self._refused.copy().items():
            counts[reason] += spans
        return counts

    def refused_of(self) -> Counter[str | None]:
        """How many spans were not taken so far, by session; None where that is not known."""
        counts: Counter[str | None] = Counter()
        for (_, session), spans in self._refused_of.copy().items():
            counts[session] += spans
        return counts

    def take(self, most: int) -> list[Waiting]:
        """The oldest spans, ``most`` of them if as many wait. For one thread at a time."""
        return [self._spans.popleft() for _ in range(min(most, len(self._spans)))]


def _add_one(counts: dict[_Key, int], key: _Key) -> None:
    # One subscription and one store, with no call between them: no other thread gets in.
    try:
        counts[key] += 1
    except KeyError:
        counts[key] = 1
