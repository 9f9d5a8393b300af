"""Sends what waits in the outbox, one batch after the other, until the destination has it or refuses it for good."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace

from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.base.guard import caught, count, say
from otel_sessions.base.threads import Bell
from otel_sessions.delivery.batch import Batch, Destination
from otel_sessions.delivery.ledger import Ledger
from otel_sessions.delivery.outbox import Outbox
from otel_sessions.delivery.verdict import Verdict, verdict

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 30.0
_IDLE_SECONDS = 5.0
_LONGEST_REST_SECONDS = 5.0
# Of the time, for inserts: chDB works in the host's process, and a server for many hosts.
_SHARE_OF_TIME = 0.05
# Sends of one batch before others get their turn: a batch that fails alone must not hold up all others.
_ATTEMPTS_IN_A_ROW = 8
# A batch that may have arrived longer ago than this may have left the destination's memory of tokens.
_TOKEN_SECONDS = 60.0


class Sender:
    """The loop of the sending thread."""

    def __init__(self, destination: Destination, ledger: Ledger, outbox: Outbox) -> None:
        self._destination = destination
        self._ledger = ledger
        self._outbox = outbox
        self._wake = Bell()
        self._failures = 0
        self._hurried: set[object] = set()
        self._finishing: set[object] = set()
        self._closed = False

    def run(self) -> None:
        """Send until closed."""
        while not self._closed:
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - no memory, for one: the thread goes on
                caught("delivery.send")
                self._wake.wait(_FIRST_RETRY_SECONDS)

    def _turn(self) -> None:
        started = time.monotonic()
        if (batch := self.send_next()) is None:
            if self._finishing and self._ledger.unfinished:
                self._finish()
            self._idle()
        elif batch.own:
            self._rest(started, time.monotonic() - started)

    def _idle(self) -> None:
        """Wait for the next batch; where other processes have ours, a flush waits for them."""
        waits_for_others = self._hurried and self._ledger.on_disk
        seconds = _FIRST_RETRY_SECONDS if waits_for_others else _IDLE_SECONDS
        self._wake.wait(seconds if self._outbox.durable else None)
        self._outbox.follow()

    def wake(self) -> None:
        """There is something to send, or no time to wait."""
        self._wake.ring()

    def hurry(self, who: object, *, finish: bool = False) -> None:
        """``who`` waits for a flush: retries follow each other quickly; with ``finish`` it waits for all to be readable."""
        self._hurried.add(who)
        if finish:
            self._finishing.add(who)
        self._wake.ring()

    def calm(self, who: object) -> None:
        """``who`` waits no longer."""
        self._hurried.discard(who)
        self._finishing.discard(who)

    def close(self) -> None:
        """End the loop after the send that runs."""
        self._closed = True
        self._wake.ring()

    @property
    def failing(self) -> bool:
        """The last attempt failed."""
        return self._failures > 0

    def send_next(self, attempts: int = _ATTEMPTS_IN_A_ROW) -> Batch | None:
        """Send the batch whose turn it is, in at most ``attempts`` attempts; None if none waits.

        Returns the batch without its body, which nobody should hold until the next is at hand.
        """
        self._outbox.upkeep()
        batch = self._outbox.next()
        if batch is None:
            return None
        for _ in range(attempts):
            self._outbox.upkeep()
            tried = self._outbox.attempted(batch)
            try:
                if not self._has_arrived(batch):
                    self._destination.send(batch.body, batch.token)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on
                if self._settled(batch, tried, error):
                    break
            else:
                if self._destination.finish is not None:
                    self._ledger.unfinished = True
                self._outbox.delivered(tried)
                self._recovered()
                break
            if not self._pause():
                break
            batch = tried
        return replace(batch, body=(), size=0)

    def _finish(self) -> None:
        try:
            if self._destination.finish is not None:
                self._destination.finish()
        except Exception as error:  # noqa: BLE001 - everything has arrived; the thread goes on
            count("error.finish", "otel-sessions: %s: %s", self._destination.name, error)
        self._ledger.unfinished = False

    def _rest(self, started: float, took: float) -> None:
        """Let short batches gather: an insert costs the store about the same whatever its length.

        One per batch age, and no more than a twentieth of the time, unless a full batch or a flush waits.
        """
        limits = self._outbox.limits
        until = started + max(limits.batch_age_seconds, min(took / _SHARE_OF_TIME, _LONGEST_REST_SECONDS))
        while not (self._closed or self._hurried or self._ledger.batched >= limits.batch_size):
            if (left := until - time.monotonic()) <= 0:
                break
            self._wake.wait(left)

    def _has_arrived(self, batch: Batch) -> bool:
        in_doubt = batch.attempts and abs(time.time() - batch.attempted_at) > _TOKEN_SECONDS
        confirm = self._destination.confirm
        return bool(in_doubt and confirm is not None and confirm(batch.body, batch.token))

    def _settled(self, untried: Batch, batch: Batch, error: Exception) -> bool:
        """What to do after a failure: False to try the same batch again after a pause."""
        self._failures += 1
        found = verdict(error)
        if found is Verdict.ELSEWHERE and self._outbox.hand_over(untried, str(error)):
            self._report_held(error)
            self._failures = 1
            self._pause()
            return True
        if found is Verdict.PASSING or isinstance(error, StoreUnavailableError):
            self._outbox.failed(batch, str(error))
            self._report_failure(error)
            return False
        self._outbox.refused(batch, str(error), revivable=found is Verdict.DESTINATION)
        self._report_refusal(batch, error)
        if found is Verdict.DESTINATION:
            # The next batch would fare no better; taken slowly, few batches end among the dead.
            self._pause()
        else:
            self._failures = 0  # it was the batch, not the destination
        return True

    def _pause(self) -> bool:
        """Wait before the next attempt, with jitter; a flush shortens the wait. False when closed."""
        delay = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 20))
        started = time.monotonic()
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        while not self._closed:
            left = started + (min(delay, _FIRST_RETRY_SECONDS) if self._hurried else delay) - time.monotonic()
            if left <= 0:
                break
            self._wake.wait(left)
        return not self._closed

    def _report_failure(self, error: Exception) -> None:
        if not self._ledger.failing and not self._closed:
            self._ledger.failing = True
            message = "otel-sessions: cannot deliver to %s, retrying: %s"
            say(logging.WARNING, message, self._destination.name, error)

    def _report_held(self, error: Exception) -> None:
        self._ledger.failing = True
        count(
            "store.held", "otel-sessions: %s Until then spans wait in the spool, for that process to send them.", error
        )

    def _report_refusal(self, batch: Batch, error: Exception) -> None:
        where = "kept; see: otel-sessions spool dead" if batch.on_disk else "dropped"
        count(
            "dropped.refused",
            "otel-sessions: %s refused %d spans (%s): %s",
            self._destination.name,
            batch.spans,
            where,
            error,
        )

    def _recovered(self) -> None:
        self._failures = 0
        if self._ledger.failing:
            self._ledger.failing = False
            say(logging.INFO, "otel-sessions: delivering to %s again", self._destination.name)
        self._outbox.revive()
