"""From ended spans to the place that keeps them: queue → batch → stages → send.

The calling thread appends to a bounded queue and goes on. One worker thread takes batches, passes each through the
stages, and sends it until the destination has it: a passing failure is retried with the same batch and the same
token, so that a destination which knows the token counts it once; a permanent one drops the batch and says so.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.base.guard import count, logger
from otel_sessions.base.values import FlushResult

Stage = Callable[[ReadableSpan], ReadableSpan]
Send = Callable[[Sequence[ReadableSpan], str], object]
"""Takes a batch and its token; raises StoreUnavailableError if the same call may succeed later."""

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in spans, age in seconds; see the settings of the same names."""

    queue_size: int = 65_536
    batch_size: int = 4_096
    batch_age_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class _Batch:
    token: str
    spans: Sequence[ReadableSpan]


class Delivery(SpanProcessor):
    """Sends every span that ends to one destination, in batches, off the caller's thread.

    ``destination`` names it in the log. The worker starts with the first span; a forked child starts empty, with a
    worker of its own, and leaves the parent's spans to the parent.
    """

    def __init__(
        self, destination: str, send: Send, *, stages: tuple[Stage, ...] = (), limits: Limits | None = None
    ) -> None:
        self._destination = destination
        self._send = send
        self._stages = stages
        self._limits = limits or Limits()
        self._reset()
        _ALIVE.add(self)

    def _reset(self) -> None:
        self._queue: deque[ReadableSpan] = deque()
        self._batch: _Batch | None = None
        self._in_flight = 0
        self._delivered = 0
        self._dropped = 0
        self._closed = False
        self._failing = False
        self._wake = threading.Event()
        self._progress = threading.Condition()
        self._urgent = False
        self._instance = uuid.uuid4().hex
        self._batches = 0
        self._worker: threading.Thread | None = None

    def on_end(self, span: ReadableSpan) -> None:
        """Take ``span`` if it is sampled; when the queue is full it is dropped and counted."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._closed or len(self._queue) >= self._limits.queue_size:
            with self._progress:
                self._dropped += 1
            self._report_drop(1, "closed" if self._closed else "queue_full")
            return
        self._queue.append(span)
        if self._worker is None:
            self._start()
        if len(self._queue) == self._limits.batch_size:
            self._wake.set()

    def flush(self, timeout: float) -> FlushResult:
        """Send what is waiting now and wait until it arrived or was dropped, at most ``timeout`` seconds."""
        if self._worker is not None:
            with self._progress:
                self._urgent = True
                self._wake.set()
                self._progress.wait_for(lambda: not self._pending(), timeout)
                self._urgent = False
        return self.result()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True if nothing is pending after at most ``timeout_millis``."""
        return self.flush(timeout_millis / 1000).pending == 0

    def result(self) -> FlushResult:
        """Where the spans stand now."""
        with self._progress:
            return FlushResult(self._delivered, self._pending(), self._dropped)

    def shutdown(self, timeout: float = 5.0) -> None:
        """Take no more spans, send what is waiting for at most ``timeout`` seconds, count the rest as dropped."""
        if self._closed:
            return
        self.flush(timeout)
        self._closed = True
        self._wake.set()
        if self._worker is not None:
            self._worker.join(timeout)
        if lost := self._pending():
            self._queue.clear()
            self._done(dropped=lost)
            self._report_drop(lost, "shutdown")

    def _pending(self) -> int:
        return len(self._queue) + self._in_flight

    def _start(self) -> None:
        with self._progress:
            if self._worker is None:
                self._worker = threading.Thread(target=self._run, name="otel-sessions-delivery", daemon=True)
                self._worker.start()

    def _run(self) -> None:
        with suppress_instrumentation():
            while not self._closed:
                self._wake.wait(self._limits.batch_age_seconds)
                self._wake.clear()
                while self._take_batch() and self._deliver():
                    pass

    def _take_batch(self) -> bool:
        if self._batch is None and self._queue:
            # Counted before they leave the queue: a flush that looks in between must not see them nowhere.
            self._in_flight = min(len(self._queue), self._limits.batch_size)
            self._batches += 1
            spans = [self._staged(self._queue.popleft()) for _ in range(self._in_flight)]
            self._batch = _Batch(f"{self._instance}-{self._batches}", spans)
        return self._batch is not None

    def _staged(self, span: ReadableSpan) -> ReadableSpan:
        for stage in self._stages:
            try:
                span = stage(span)
            except Exception:  # noqa: BLE001 - a span without its price is worth more than no span
                count("error.stage", "otel-sessions: a stage failed for a span", exc_info=True)
        return span

    def _deliver(self) -> bool:
        """Send the current batch until it is gone. False if the delivery was closed meanwhile."""
        attempt = 0
        while self._batch is not None:
            try:
                self._send(self._batch.spans, self._batch.token)
            except StoreUnavailableError as error:
                self._report_failure(error)
                if not self._back_off(attempt):
                    return False
                attempt += 1
            except Exception as error:  # noqa: BLE001 - permanent: this batch would block all others
                self._report_drop(len(self._batch.spans), "refused", error)
                self._done(dropped=len(self._batch.spans))
            else:
                self._report_recovery()
                self._done(delivered=len(self._batch.spans))
        return True

    def _done(self, *, delivered: int = 0, dropped: int = 0) -> None:
        with self._progress:
            self._delivered += delivered
            self._dropped += dropped
            self._in_flight = 0
            self._batch = None
            self._progress.notify_all()

    def _back_off(self, attempt: int) -> bool:
        """Wait before the next attempt, with jitter; a flush or a shutdown shortens the wait. False when closed."""
        delay = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311
        deadline = time.monotonic() + (min(delay, _FIRST_RETRY_SECONDS) if self._urgent else delay)
        while not self._closed and (left := deadline - time.monotonic()) > 0:
            if self._wake.wait(left):
                self._wake.clear()
                deadline = min(deadline, time.monotonic() + _FIRST_RETRY_SECONDS) if self._urgent else deadline
        return not self._closed

    def _report_failure(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            logger.warning("otel-sessions: cannot deliver to %s, retrying: %s", self._destination, error)

    def _report_recovery(self) -> None:
        if self._failing:
            self._failing = False
            logger.info("otel-sessions: delivering to %s again", self._destination)

    def _report_drop(self, spans: int, reason: str, error: Exception | None = None) -> None:
        detail = f": {error}" if error else ""
        count(
            f"dropped.{reason}",
            "otel-sessions: %d spans for %s dropped (%s)%s",
            spans,
            self._destination,
            reason,
            detail,
        )


_ALIVE: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _after_fork() -> None:
    for delivery in tuple(_ALIVE):
        closed = delivery._closed  # noqa: SLF001 - same module
        delivery._reset()  # noqa: SLF001
        delivery._closed = closed  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
