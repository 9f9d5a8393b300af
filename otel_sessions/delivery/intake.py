"""The bounded queue: the only part of the delivery that runs on the host's threads."""

from __future__ import annotations

from collections import Counter, deque
from threading import get_ident

from opentelemetry.sdk.trace import ReadableSpan


class Intake:
    """Takes spans from any thread without a lock and without waiting; refuses what is beyond its room.

    ``size`` is how many spans may be in memory, here and in the stages that follow.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._room = size
        self._spans: deque[ReadableSpan] = deque()
        self._refused: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self._spans)

    def offer(self, span: ReadableSpan) -> int:
        """Take ``span`` and return how many wait now; 0 if there was no room for it."""
        waiting = len(self._spans)
        if waiting >= self._room:
            self.refuse("queue_full")
            return 0
        self._spans.append(span)
        return waiting + 1

    def leave_room_for(self, held: int) -> None:
        """The stages that follow hold so many spans in memory now."""
        self._room = self._size - held

    def refuse(self, reason: str) -> None:
        """Count a span that was not taken.

        Each thread counts for itself: a counter that all share would need a lock on the host's way.
        """
        key = (get_ident(), reason)
        try:
            self._refused[key] += 1
        except KeyError:
            self._refused[key] = 1

    def refused(self) -> Counter[str]:
        """How many spans were not taken so far, by reason."""
        counts: Counter[str] = Counter()
        for (_, reason), spans in self._refused.copy().items():
            counts[reason] += spans
        return counts

    def take(self, most: int) -> list[ReadableSpan]:
        """The oldest spans, ``most`` of them if as many wait. For one thread at a time."""
        return [self._spans.popleft() for _ in range(min(most, len(self._spans)))]
