"""Settles open calls: which LLM spans of other instrumentations count, and in which session they are.

Each counts as soon as it arrives. What its trace says later (the view ``call_decisions``) is applied in rounds: what
changes is staged, taken out of or put into the rollups as corrections, changed in ``llm_calls``, and noted. Every step
may run twice, so a round that was cut short is finished by the next process, and two at once do the same work.
"""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from importlib.resources import files

from otel_sessions.base.errors import StoreError
from otel_sessions.store.connection import Connection

_STAGE = "settle_1_stage"
_STEPS = (
    "settle_2_take_out",
    "settle_3_put_in",
    "settle_4_delete",
    "settle_5_insert",
    "settle_6_suppress",
    "settle_7_note",
)
# Everything that settling depends on changes the parts of these tables, and asking takes a millisecond.
_STATE = """
SELECT countIf(table = 'open_calls'), sum(rows), groupBitXor(sipHash64(name, table)) FROM system.parts
WHERE database = currentDatabase() AND active AND table IN ('open_calls', 'otel_traces')
"""
_ROUNDS = "SELECT (SELECT max(round) FROM settlements), (SELECT max(round) FROM settling)"
_FINISHED = "INSERT INTO settlements SELECT {round:UInt64}, now64(3)"
_CLEAR = "DELETE FROM settling WHERE round <= {round:UInt64}"
_INSERT_PAUSE_SECONDS = 1.0


class Settling:
    """When a store was settled last, and in which state it was then. Safe to use from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._settled: tuple[int, ...] = ()
        self._settled_at = 0.0

    def after_insert(self) -> None:
        """Settle, unless that was done within the last second. Raises nothing: the spans are in the store."""
        if time.monotonic() - self._settled_at >= _INSERT_PAUSE_SECONDS:
            self.before_reading()

    def before_reading(self) -> None:
        """Settle what has arrived since. Raises nothing: whoever may only read sees what others settled."""
        try:
            self.settle()
        except StoreError:
            self._settled_at = time.monotonic()

    def settle(self) -> None:
        """Settle, unless nothing has arrived since."""
        with self._lock:
            state = self._state()
            if state == self._settled:
                return
            if state[0]:
                self._run()
                state = self._state()
            self._settled, self._settled_at = state, time.monotonic()

    def _state(self) -> tuple[int, ...]:
        return tuple(self._connection.query(_STATE).result_rows[0])

    def _run(self) -> None:
        finished, staged = self._rounds()
        if staged > finished:
            self._apply(staged)
            finished = staged
        self._step(_STAGE, finished + 1)
        self._apply(finished + 1)

    def _apply(self, number: int) -> None:
        _, staged = self._rounds()
        if staged == number:
            for step in _STEPS:
                self._step(step, number)
        self._connection.command(_FINISHED, {"round": number})
        if staged == number:
            self._connection.command(_CLEAR, {"round": number})

    def _rounds(self) -> tuple[int, int]:
        [(finished, staged)] = self._connection.query(_ROUNDS).result_rows
        return finished, staged

    def _step(self, name: str, number: int) -> None:
        settings = {
            "insert_deduplication_token": f"{name}-{number}",
            "deduplicate_blocks_in_dependent_materialized_views": "1",
            "async_insert": "0",
        }
        self._connection.command(_statement(name), {"round": number}, settings=settings)


@lru_cache(maxsize=8)
def _statement(name: str) -> str:
    text = files("otel_sessions.store").joinpath("queries", f"{name}.sql").read_text("utf-8")
    # The driver looks at the first word to tell what comes back.
    return text.partition("\n")[2]
