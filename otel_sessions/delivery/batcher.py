"""Makes batches of what waits in the queue: cut, priced, encoded, under a token of its own."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base.group import SpanGroup, grouped
from otel_sessions.base.guard import caught, count
from otel_sessions.base.threads import Bell, give_way, new_lock
from otel_sessions.base.values import copied
from otel_sessions.delivery.batch import Batch, Recipe, Stage
from otel_sessions.delivery.intake import LOOSE
from otel_sessions.delivery.ledger import MEMORY, Ledger
from otel_sessions.delivery.numbering import Numbering
from otel_sessions.delivery.outbox import Outbox
from otel_sessions.delivery.packing import Waiting, unpack

GROUP = 512
"""Spans that are encoded together. Small: between the queue and the encoding spans are objects, which the garbage
collector visits, and encoding keeps the interpreter."""

_ATTEMPTS = 3
_RETRY_SECONDS = 0.25


class Batcher:
    """The loop of the batching thread.

    It encodes what waits as soon as that is a group, and puts the groups into the outbox as one batch: four times
    per ``batch_age_seconds`` with a spool, which leaves three quarters for pricing, encoding and writing, else once.
    """

    def __init__(self, recipe: Recipe, ledger: Ledger, outbox: Outbox, ready: Callable[[], object]) -> None:
        self._recipe = recipe
        self._limits = recipe.limits
        self._ledger = ledger
        self._outbox = outbox
        self._ready = ready
        self._instance = uuid.uuid4().hex
        self._numbering = Numbering(self._instance) if recipe.numbered else None
        self.group = min(GROUP, recipe.limits.batch_size)
        self._body: list[Any] = []
        self._size = 0
        self._spans = 0
        self._made = 0
        self._reported = 0
        self._skipped: Counter[str | None] = Counter()
        self._nudged = Bell()
        self._is_due = False
        self._tick = self._limits.batch_age_seconds * (0.25 if outbox.durable else 1.0)
        self._due = time.monotonic() + self._tick
        self._busy = new_lock()
        self._closed = False

    def run(self) -> None:
        """Batch until closed."""
        while not self._closed:
            try:
                while not self._is_due and (left := self._due - time.monotonic()) > 0:
                    self._nudged.wait(left)
                    self._gather_groups()
                self._is_due = False
                self.drain()
            except Exception:  # noqa: BLE001 - no memory, for one: the thread goes on
                caught("delivery.batch")
                self._nudged.wait(_RETRY_SECONDS)

    def nudge(self) -> None:
        """A group waits."""
        self._nudged.ring()

    def wake(self) -> None:
        """Someone waits for a batch."""
        self._is_due = True
        self._nudged.ring()

    def close(self) -> None:
        """End the loop after what it is doing."""
        self._closed = True
        self.wake()

    def drain(self) -> None:
        """Make batches of all that waits in the queue."""
        with self._busy:
            self._gather(self._ledger.waiting)
            self._put()
        self._report_refused()

    def accept(self, spans: Sequence[ReadableSpan]) -> None:
        """Make batches of ``spans``, which did not come through the queue."""
        with self._busy:
            self._ledger.move(len(spans), None, MEMORY)
            for start in range(0, len(spans), self.group):
                self._take(spans[start : start + self.group])
            self._put()

    def _gather_groups(self) -> None:
        with self._busy:
            while (waiting := self._ledger.waiting) >= self.group:
                self._gather(waiting - waiting % self.group)

    def _gather(self, waiting: int) -> None:
        while waiting > 0:
            if not self._spans:
                self._skip_refused()
            group = self._ledger.take(min(waiting, self.group, self._limits.batch_size - self._spans))
            waiting -= len(group)
            self._take(group)

    def _take(self, group: Sequence[Waiting]) -> None:
        for spans, piece in self._pieces(group):
            if piece is None:
                self._ledger.drop(spans, MEMORY, "unencodable")
            else:
                self._add(spans, piece)

    def _pieces(self, group: Sequence[Waiting]) -> list[tuple[int, Any]]:
        """``group`` as bytes, with None for what cannot be encoded. What fails for want of memory is tried again."""
        for _ in range(_ATTEMPTS):
            try:
                return list(self._encoded(self._prepared(list(map(unpack, group)))))
            except Exception:  # noqa: BLE001 - whatever it is, these spans are accounted for
                caught("delivery.batch")
                self._nudged.wait(_RETRY_SECONDS)
        return [(len(group), None)]

    def _add(self, spans: int, piece: Any) -> None:
        if self._size + len(piece) > self._limits.batch_bytes:
            self._put()
        self._body.append(piece)
        self._size += len(piece)
        self._spans += spans
        if self._spans >= self._limits.batch_size or time.monotonic() >= self._due:
            self._put()

    def _put(self) -> None:
        self._due = time.monotonic() + self._tick
        if self._spans:
            self._made += 1
            self._outbox.put(Batch(f"{self._instance}-{self._made}", self._spans, self._body, self._size))
            self._body, self._size, self._spans = [], 0, 0
            self._ready()

    def _prepared(self, spans: Sequence[ReadableSpan]) -> list[SpanGroup]:
        attributes = [copied(span.attributes) for span in spans]
        if self._numbering is not None:
            for each in attributes:  # before they are grouped: numbers follow the order in which spans ended
                self._numbering.number(each)
        groups = grouped(spans, attributes)
        for stage in self._recipe.stages:
            self._pause()
            groups = list(chain.from_iterable(_passed(stage, group) for group in groups))
        self._pause()
        return groups

    def _pause(self) -> None:
        """Hand the interpreter to a thread of the host that wants it; else that waits for 5 ms, the switch interval.

        Not when the queue grows: a busy host gives it back after 5 ms, or, on a machine with too much to do, after 0.1 s.
        """
        if self._ledger.waiting < LOOSE:
            give_way()

    def _encoded(self, groups: Sequence[SpanGroup]) -> Iterator[tuple[int, Any]]:
        spans, piece = sum(map(len, groups)), None
        try:
            piece = self._recipe.encode(groups)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - one span that cannot be encoded must not take others with it
            if spans == 1:
                count("dropped.unencodable", "otel-sessions: a span cannot be encoded: %s", error, exc_info=True)
                yield 1, None
                return
        if piece is not None and (len(piece) <= self._limits.batch_bytes or spans == 1):
            yield spans, piece
            return
        parts = groups if len(groups) > 1 else groups[0].singles()
        middle = len(parts) // 2
        yield from self._encoded(parts[:middle])
        yield from self._encoded(parts[middle:])

    def _skip_refused(self) -> None:
        if self._numbering is None or not self._ledger.refused("queue_full"):
            return
        refused = self._ledger.refused_of()
        for session, spans in (refused - self._skipped).items():
            if session is None:
                self._numbering.doubt()
            else:
                self._numbering.skip(session, spans)
        self._skipped = refused

    def _report_refused(self) -> None:
        refused = self._ledger.refused("queue_full")
        if newly := refused - self._reported:
            self._reported = refused
            count(
                "dropped.queue_full",
                "otel-sessions: %d spans dropped: more than queue_size=%d wait",
                newly,
                self._limits.queue_size,
            )


def _passed(stage: Stage, group: SpanGroup) -> Iterable[SpanGroup]:
    try:
        return list(stage(group))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a span that is too long, or without its price, is worth more than no span
        if len(group) == 1:
            count("error.stage", "otel-sessions: a stage failed for a span", exc_info=True)
            return (group,)
    return chain.from_iterable(_passed(stage, one) for one in group.singles())
