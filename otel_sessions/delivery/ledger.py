"""The accounts: every span that ended is in exactly one place."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from otel_sessions.base.threads import Bell, new_rlock
from otel_sessions.base.values import FlushResult
from otel_sessions.delivery.intake import Intake
from otel_sessions.delivery.packing import Waiting

MEMORY = "memory"
DISK = "disk"
DELIVERED = "delivered"
RECOVERED = "recovered"
"""Spans of processes that have ended, delivered by this one; no span of this process is counted here."""


class Ledger:
    """Where the spans of this process stand. Moves are atomic: no reader sees a span twice or nowhere."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._spans: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._failing = False
        self._unfinished = False
        self._lock = new_rlock()
        self._waiting: list[Bell] = []

    def take(self, most: int) -> list[Waiting]:
        """Spans out of the queue, from now on held by the caller, in memory."""
        with self._lock:
            taken = self._intake.take(most)
            self._spans[MEMORY] += len(taken)
            self._notify()
            return taken

    def move(self, spans: int, source: str | None, target: str) -> None:
        """``spans`` went from one place to another; None stands for outside of this process's accounts."""
        with self._lock:
            if source is not None:
                self._spans[source] -= spans
            self._spans[target] += spans
            self._notify()

    def drop(self, spans: int, source: str, reason: str) -> None:
        """``spans`` are lost."""
        with self._lock:
            self._spans[source] -= spans
            self._dropped[reason] += spans
            self._notify()

    def refused(self, reason: str) -> int:
        """Spans that the queue did not take."""
        return self._intake.refused()[reason]

    def refused_of(self) -> Counter[str | None]:
        """Spans that the queue did not take, by session."""
        return self._intake.refused_of()

    def drop_waiting(self, reason: str) -> None:
        """What is still in the queue is lost."""
        with self._lock:
            self._dropped[reason] += len(self._intake.take(len(self._intake)))

    def revive(self, spans: int, reason: str) -> None:
        """``spans`` that were dropped for ``reason`` are on disk again and will be sent."""
        with self._lock:
            self._dropped[reason] -= spans
            self._spans[DISK] += spans
            self._notify()

    def reconcile(self, on_disk: int, dead: int, reason: str) -> None:
        """Another process had our batches for a while: what neither waits nor is dead, it delivered."""
        with self._lock:
            newly_dead = dead - self._dropped[reason]
            self._spans[DELIVERED] += self._spans[DISK] - on_disk - newly_dead
            self._dropped[reason] = dead
            self._spans[DISK] = on_disk
            self._notify()

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return len(self._intake)

    @property
    def batched(self) -> int:
        """Spans of this process in batches that wait to be sent, or nearly."""
        return self._spans[MEMORY] + self._spans[DISK]

    @property
    def on_disk(self) -> int:
        """Spans of this process in the spool."""
        return self._spans[DISK]

    @property
    def failing(self) -> bool:
        """The destination did not take the last batch."""
        return self._failing

    @failing.setter
    def failing(self, failing: bool) -> None:
        with self._lock:
            self._failing = failing
            self._tell()

    @property
    def unfinished(self) -> bool:
        """Something has arrived since the destination finished what it had."""
        return self._unfinished

    @unfinished.setter
    def unfinished(self, unfinished: bool) -> None:
        with self._lock:
            self._unfinished = unfinished
            self._tell()

    def pending(self) -> int:
        """Spans on their way, in memory and on disk."""
        return self.in_memory() + self._spans[DISK]

    def in_memory(self) -> int:
        """Spans that would be lost if the process were killed now."""
        return len(self._intake) + self._spans[MEMORY]

    def wait_for(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``reached()``, at most ``timeout`` seconds; it is asked after each move."""
        until, bell = time.monotonic() + timeout, Bell()
        with self._lock:
            self._waiting.append(bell)
        try:
            while not (arrived := self._holds(reached)) and (left := until - time.monotonic()) > 0:
                bell.wait_in_host(left)
            return arrived
        finally:
            with self._lock:
                self._waiting.remove(bell)

    def _holds(self, reached: Callable[[], bool]) -> bool:
        with self._lock:
            return reached()

    def result(self) -> FlushResult:
        """All accounts at one moment."""
        with self._lock:
            dropped = {reason: spans for reason, spans in (self._dropped + self._intake.refused()).items() if spans}
            return FlushResult(
                delivered=self._spans[DELIVERED],
                pending=self.pending(),
                dropped=sum(dropped.values()),
                pending_disk=self._spans[DISK],
                recovered=self._spans[RECOVERED],
                dropped_reasons=dropped,
            )

    def _notify(self) -> None:
        self._intake.leave_room_for(self._spans[MEMORY])
        self._tell()

    def _tell(self) -> None:
        for bell in self._waiting:
            bell.ring()
