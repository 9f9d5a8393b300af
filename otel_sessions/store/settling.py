"""Settles open calls: which LLM spans of other instrumentations count, and in which session they are.

Each counts as soon as it arrives. What its trace says later (the view ``call_decisions``) is applied in rounds: what
changes is staged, taken out of or put into the rollups as corrections, changed in ``llm_calls``, and noted. Every step
may run twice, so a round that was cut short is finished by the next process, and two at once do the same work.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from weakref import WeakSet

from otel_sessions.base.errors import StoreError
from otel_sessions.store import arrivals
from otel_sessions.store.connection import UNCOMPILED, Connection

_STAGE = "settle_1_stage"
_STEPS = (
    "settle_2_take_out",
    "settle_3_put_in",
    "settle_4_delete",
    "settle_5_insert",
    "settle_6_forget",
    "settle_7_suppress",
    "settle_8_note",
)
# Asked before every query: counts that the engine keeps. Whatever settling depends on changes one of them, open calls
# shortly after the spans that they come with. A store with spans of ours alone has no open calls.
_OPEN = "SELECT count() FROM open_calls"
_SPANS = "SELECT count() FROM otel_traces"
_NOTHING_OPEN = (0, 0)
_ROUNDS = "SELECT (SELECT max(round) FROM settlements), (SELECT max(round) FROM settling)"
_CHANGES = """
SELECT countIf(was_counted AND reason != ''), countIf(was_counted AND reason = ''), countIf(NOT was_counted AND reason = '')
FROM settling WHERE round = {round:UInt64}
"""
_FINISHED = "INSERT INTO settlements SELECT {round:UInt64}, now64(3)"
_CLEAR = "DELETE FROM settling WHERE round <= {round:UInt64}"
_INSERT_PAUSE_SECONDS = 1.0
# Where much is undecided, settling takes long; it must not take more than this part of the time of who inserts.
_SHARE_OF_TIME = 0.1


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling changed: calls left out, moved into another session, and counted that were left out before."""

    left_out: int = 0
    moved: int = 0
    put_back: int = 0

    def __add__(self, other: Settled) -> Settled:
        return Settled(self.left_out + other.left_out, self.moved + other.moved, self.put_back + other.put_back)

    def __bool__(self) -> bool:
        return bool(self.left_out or self.moved or self.put_back)


class Settling:
    """When a store was settled last, and what it held then. Safe to use from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        _alive.add(self)
        self._settled = _NOTHING_OPEN
        self._settled_at = 0.0
        self._pause = _INSERT_PAUSE_SECONDS

    def leave_to_parent(self) -> None:
        """In a forked child: forget the lock, whose holder is not there to release it."""
        self._lock = threading.Lock()

    def after_insert(self) -> None:
        """Settle, unless that was done a moment ago. Raises nothing: the spans are in the store."""
        if time.monotonic() - self._settled_at >= self._pause:
            self._try()

    def after_last_insert(self) -> None:
        """Settle what :meth:`after_insert` has left. Raises nothing: the spans are in the store."""
        self._try()

    def before_reading(self) -> None:
        """Settle what has arrived since, and what this process has on the way.

        Raises nothing: whoever may only read sees what others settled.
        """
        arrivals.wait(self._connection.target)
        self._try()

    def _try(self) -> None:
        try:
            self.settle()
        except StoreError:
            self._settled_at = time.monotonic()

    def settle(self) -> Settled:
        """Settle, unless nothing has arrived since; return what changed."""
        with self._lock:
            state = self._state()
            if state == self._settled:
                return Settled()
            began = time.monotonic()
            changed = self._run()
            # As it was before: what arrives meanwhile is for the next time.
            self._settled, self._settled_at = state, time.monotonic()
            self._pause = max(_INSERT_PAUSE_SECONDS, (self._settled_at - began) / _SHARE_OF_TIME)
            return changed

    def _state(self) -> tuple[int, int]:
        [(open_calls,)] = self._connection.query(_OPEN).result_rows
        if not open_calls:
            return _NOTHING_OPEN
        [(spans,)] = self._connection.query(_SPANS).result_rows
        return open_calls, spans

    def _run(self) -> Settled:
        finished, staged = self._rounds()
        changed = Settled()
        if staged > finished:
            changed = self._apply(staged)
            finished = staged
        self._step(_STAGE, finished + 1)
        return changed + self._apply(finished + 1)

    def _apply(self, number: int) -> Settled:
        _, staged = self._rounds()
        if staged != number:
            self._connection.command(_FINISHED, {"round": number})
            return Settled()
        changed = Settled(*self._connection.query(_CHANGES, {"round": number}).result_rows[0])
        for step in _STEPS:
            self._step(step, number)
        self._connection.command(_FINISHED, {"round": number})
        self._connection.command(_CLEAR, {"round": number})
        return changed

    def _rounds(self) -> tuple[int, int]:
        [(finished, staged)] = self._connection.query(_ROUNDS).result_rows
        return finished, staged

    def _step(self, name: str, number: int) -> None:
        settings = {
            "insert_deduplication_token": f"{name}-{number}",
            "deduplicate_blocks_in_dependent_materialized_views": "1",
            "async_insert": "0",
            **UNCOMPILED,
        }
        self._connection.command(_statement(name), {"round": number}, settings=settings)


_alive: WeakSet[Settling] = WeakSet()


def _after_fork() -> None:
    for settling in tuple(_alive):
        settling.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@lru_cache(maxsize=8)
def _statement(name: str) -> str:
    text = files("otel_sessions.store").joinpath("queries", f"{name}.sql").read_text("utf-8")
    # The driver looks at the first word to tell what comes back.
    return text.partition("\n")[2]
