"""Makes batches of what waits in the queue: cut, priced, encoded, under a token of its own."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base.guard import count
from otel_sessions.delivery.batch import Batch, Recipe
from otel_sessions.delivery.ledger import MEMORY, Ledger
from otel_sessions.delivery.numbering import Numbering
from otel_sessions.delivery.outbox import Outbox

_YIELD_EVERY = 8


class Batcher:
    """The loop of the batching thread.

    With a spool it takes what waits twice per ``batch_age_seconds``, which leaves the other half for pricing,
    encoding and writing.
    """

    def __init__(self, recipe: Recipe, ledger: Ledger, outbox: Outbox, ready: Callable[[], object]) -> None:
        self._recipe = recipe
        self._limits = recipe.limits
        self._ledger = ledger
        self._outbox = outbox
        self._ready = ready
        self._instance = uuid.uuid4().hex
        numbering = Numbering(self._instance) if recipe.numbered else None
        self._numbering = numbering
        self._stages = (*recipe.stages, numbering.number) if numbering else recipe.stages
        self._made = 0
        self._reported = 0
        self._skipped: Counter[str | None] = Counter()
        self._wake = threading.Event()
        self._busy = threading.Lock()
        self._closed = False

    def run(self) -> None:
        """Batch until closed."""
        tick = self._limits.batch_age_seconds * (0.5 if self._outbox.durable else 1.0)
        while not self._closed:
            self._wake.wait(tick)
            self._wake.clear()
            self.drain()

    def wake(self) -> None:
        """A batch is full, or someone waits."""
        self._wake.set()

    def close(self) -> None:
        """End the loop after what it is doing."""
        self._closed = True
        self._wake.set()

    def drain(self) -> None:
        """Make batches of all that waits in the queue."""
        with self._busy:
            while spans := self._ledger.take(self._limits.batch_size):
                self._skip_refused()
                for batch in self._batches(self._all_staged(spans)):
                    self._outbox.put(batch)
                    self._ready()
        self._report_refused()

    def _all_staged(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        done = []
        for number, span in enumerate(spans):
            done.append(self._staged(span))
            if number % _YIELD_EVERY == 0 and self._ledger.waiting < self._limits.batch_size:
                # Hands the interpreter to a thread of the host that wants it; else that waits for 5 ms, the switch
                # interval. Not in a flood: there the host would take all, and the queue would stay full.
                time.sleep(0)
        return done

    def _staged(self, span: ReadableSpan) -> ReadableSpan:
        for stage in self._stages:
            try:
                span = stage(span)
            except Exception:  # noqa: BLE001 - a span without its price is worth more than no span
                count("error.stage", "otel-sessions: a stage failed for a span", exc_info=True)
        return span

    def _batches(self, spans: Sequence[ReadableSpan]) -> Iterator[Batch]:
        for part, body in self._encoded(spans):
            self._made += 1
            yield Batch(f"{self._instance}-{self._made}", len(part), body)

    def _encoded(self, spans: Sequence[ReadableSpan]) -> Iterator[tuple[Sequence[ReadableSpan], object]]:
        if self._recipe.encode is None:
            yield spans, spans
            return
        body = None
        try:
            body = self._recipe.encode(spans)
        except Exception as error:  # noqa: BLE001 - one span that cannot be encoded must not take others with it
            if len(spans) == 1:
                count("dropped.unencodable", "otel-sessions: a span cannot be encoded: %s", error, exc_info=True)
                self._ledger.drop(1, MEMORY, "unencodable")
                return
        if body is not None and (len(body) <= self._limits.batch_bytes or len(spans) == 1):
            yield spans, body
            return
        middle = len(spans) // 2
        yield from self._encoded(spans[:middle])
        yield from self._encoded(spans[middle:])

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
