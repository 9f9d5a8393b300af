"""Batches that wait to be sent: on disk where there is a spool and it has room, else in memory.

The batcher puts, the sender takes and settles. Every step is entered in the ledger here and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from otel_sessions.base.errors import SpoolError
from otel_sessions.base.guard import count
from otel_sessions.base.threads import new_lock
from otel_sessions.delivery import ledger as accounts
from otel_sessions.delivery.batch import Batch, Limits
from otel_sessions.delivery.database import SpoolFullError, SpoolLostError
from otel_sessions.delivery.ledger import Ledger
from otel_sessions.delivery.spool import Spool

REFUSED = "refused"
DAMAGED = "spool_damaged"
_UPKEEP_SECONDS = 5.0
_REST_SECONDS = 2.0
# What is left to other processes is not taken back for so long.
_ASIDE_SECONDS = 5.0

_Result = TypeVar("_Result")


class Outbox:
    """What waits, seen by one process. ``spool`` None keeps everything in memory.

    A spool that fails is left alone for two seconds; meanwhile batches stay in memory.
    """

    def __init__(self, ledger: Ledger, spool: Spool | None, limits: Limits | None = None) -> None:
        self._ledger = ledger
        self._spool = spool
        self.limits = limits or Limits()
        self._memory: dict[str, Batch] = {}
        self._in_hand: Batch | None = None
        self._undeleted: list[Batch] = []
        self._lock = new_lock()
        self._spool_again_at = 0.0
        self._upkeep_at = 0.0
        self._revive_due = True
        self._elsewhere = False
        self._aside_until = 0.0

    @property
    def durable(self) -> bool:
        """There is a spool, whether or not it works now."""
        return self._spool is not None

    def put(self, batch: Batch) -> None:
        """Keep ``batch``, which the caller holds in memory, until it is settled."""
        if not self._to_disk(batch):
            with self._lock:
                self._memory[batch.token] = batch

    def next(self) -> Batch | None:
        """The batch to send next, None if none waits. What is only in memory goes first: it is at risk."""
        self._in_hand = self._first_in_memory()
        if self._in_hand is None and self._all_deleted():
            self._in_hand = self._on_disk(lambda spool: spool.next(self.limits), None)
        return self._in_hand

    def attempted(self, batch: Batch) -> Batch:
        """Note, before it is sent, that ``batch`` may have reached the store; return it so noted."""
        tried = batch.tried(time.time())
        if self._lies_on_disk(batch):
            self._on_disk(lambda spool: spool.attempted(tried), None)
        with self._lock:
            if batch.token in self._memory:
                self._memory[batch.token] = replace(tried, on_disk=False)
        return tried

    def failed(self, batch: Batch, reason: str) -> None:
        """Note why the last attempt failed; ``batch`` stays."""
        if batch.on_disk:
            self._on_disk(lambda spool: spool.failed(batch, reason), None)

    def delivered(self, batch: Batch) -> None:
        """The destination has ``batch``."""
        self._in_hand = None
        self._aside_until = 0.0
        target = accounts.DELIVERED if batch.own else accounts.RECOVERED
        if self._lies_on_disk(batch):
            self._ledger.move(batch.spans, accounts.DISK if batch.own else None, target)
            self._undeleted.append(batch)
            self._all_deleted()
        elif self._settle(batch):
            self._ledger.move(batch.spans, accounts.MEMORY, target)

    def refused(self, batch: Batch, reason: str, *, revivable: bool) -> None:
        """The destination will not take ``batch``: to the dead on disk, or lost from memory."""
        self._in_hand = None
        if not self._lies_on_disk(batch):
            if self._settle(batch):
                self._ledger.drop(batch.spans, accounts.MEMORY, REFUSED)
        elif self._did(lambda spool: spool.bury(batch, reason, revivable=revivable)):
            self._revive_due = self._revive_due or revivable
            if batch.own:
                self._ledger.drop(batch.spans, accounts.DISK, REFUSED)

    def hand_over(self, untried: Batch, reason: str) -> bool:
        """Leave all that is on disk to a process that can send it; False if ``untried``, in hand now, is not on disk."""
        if not untried.on_disk:
            return False
        self._elsewhere = True
        self._aside_until = time.monotonic() + _ASIDE_SECONDS
        return self._did(lambda spool: spool.hand_over(untried, reason))

    def take_back(self) -> bool:
        """Have the next look take back what was left to other processes and still waits; False if nothing was left."""
        self._aside_until = self._upkeep_at = 0.0
        return self._elsewhere

    def follow(self) -> None:
        """Enter what other processes have made of the batches that were left to them."""
        if self._elsewhere and not self._undeleted:
            self._did(lambda spool: spool.left(lambda waiting, dead: self._ledger.reconcile(waiting, dead, REFUSED)))
            self._elsewhere = self._ledger.on_disk > 0

    def revive(self) -> None:
        """The destination takes batches: send again what it refused for a fault of its own."""
        if self._revive_due:
            self._revive_due = False
            if spans := self._on_disk(Spool.revive, 0):
                self._ledger.revive(spans, REFUSED)

    def upkeep(self) -> None:
        """Every few seconds: a sign of life, batches of processes that ended, and memory back to disk."""
        if self._spool is None or time.monotonic() < self._upkeep_at:
            return
        self._upkeep_at = time.monotonic() + _UPKEEP_SECONDS
        self._elsewhere = self._on_disk(Spool.beat, otherwise=False) or self._elsewhere
        self.follow()
        if time.monotonic() >= self._aside_until:
            self._on_disk(Spool.adopt, 0)
        self._on_disk(Spool.rest, None)
        self.save()

    def save(self) -> None:
        """Move to disk what is only in memory, as far as there is room; not what is being sent right now."""
        with self._lock:
            in_hand = self._in_hand.token if self._in_hand else None
            waiting = [batch for batch in self._memory.values() if batch.token != in_hand]
        for batch in waiting:
            if not self._to_disk(batch):
                return
            with self._lock:
                del self._memory[batch.token]

    def close(self, reason: str) -> int:
        """No one sends any more: to disk what can be, the rest is dropped. Returns how many spans were dropped."""
        self._spool_again_at = 0.0
        lost = self.give_up(reason)
        self._on_disk(Spool.release, None)
        return lost

    def give_up(self, reason: str) -> int:
        """What is only in memory goes to disk or is dropped, now. Returns how many spans were dropped."""
        with self._lock:
            left, self._memory = self._memory, {}
        lost = [batch for batch in left.values() if not self._to_disk(batch)]
        for batch in lost:
            self._ledger.drop(batch.spans, accounts.MEMORY, reason)
        return sum(batch.spans for batch in lost)

    def _first_in_memory(self) -> Batch | None:
        """The first batch, with those that follow it as far as one insert may hold them and none was tried yet."""
        with self._lock:
            waiting = iter(self._memory.values())
            first = next(waiting, None)
            if first is None or first.attempts:
                return first
            joined, spans, size = [first], first.spans, first.size
            for batch in waiting:
                spans, size = spans + batch.spans, size + batch.size
                if batch.attempts or spans > self.limits.batch_size or size > self.limits.batch_bytes:
                    break
                joined.append(batch)
            for batch in joined[1:]:
                del self._memory[batch.token]
            first = replace(
                first,
                spans=sum(one.spans for one in joined),
                body=[piece for one in joined for piece in one.body],
                size=sum(one.size for one in joined),
            )
            self._memory[first.token] = first
            return first

    def _to_disk(self, batch: Batch) -> bool:
        if self._spool is None:
            return False
        entered = False

        def enter() -> None:
            nonlocal entered
            entered = True
            self._ledger.move(batch.spans, accounts.MEMORY, accounts.DISK)

        if self._did(lambda spool: spool.put(batch, enter)):
            return True
        if entered:
            self._ledger.move(batch.spans, accounts.DISK, accounts.MEMORY)
        return False

    def _all_deleted(self) -> bool:
        """Delete what was delivered. Where the disk refuses, nothing more is taken from it: it would come again."""
        while self._undeleted:
            if not self._did(lambda spool: spool.delete(self._undeleted[-1])):
                return False
            self._undeleted.pop()
        return True

    def _settle(self, batch: Batch) -> bool:
        """Take ``batch`` out of memory; False if it was given up meanwhile."""
        with self._lock:
            return self._memory.pop(batch.token, None) is not None

    def _did(self, do: Callable[[Spool], None]) -> bool:
        def done(spool: Spool) -> bool:
            do(spool)
            return True

        return self._on_disk(done, otherwise=False)

    def _on_disk(self, do: Callable[[Spool], _Result], otherwise: _Result) -> _Result:
        """``do(spool)``, or ``otherwise`` if there is no spool or it fails."""
        if self._spool is None or time.monotonic() < self._spool_again_at:
            return otherwise
        try:
            return do(self._spool)
        except SpoolLostError:
            self._lost(self._spool)
        except SpoolFullError as error:
            count(
                "spool.full", "otel-sessions: %s; new batches wait in memory, then the newest spans are dropped", error
            )
        except (SpoolError, MemoryError) as error:
            self._spool_again_at = time.monotonic() + _REST_SECONDS
            count("spool.failed", "otel-sessions: cannot spool to disk, batches wait in memory: %s", error)
        return otherwise

    def _lost(self, spool: Spool) -> None:
        """The file is gone, and all that it held but the batch that is being sent: that lives on in memory."""
        spool.forget()
        held = self._in_hand
        if held is not None and held.own and self._lies_on_disk(held):
            with self._lock:
                self._memory[held.token] = replace(held, on_disk=False)
            self._ledger.move(held.spans, accounts.DISK, accounts.MEMORY)
        self._ledger.drop(self._ledger.on_disk, accounts.DISK, DAMAGED)

    def _lies_on_disk(self, batch: Batch) -> bool:
        """False also for one that came from there, and lives on in memory since the file is gone."""
        return batch.on_disk and batch.token not in self._memory
