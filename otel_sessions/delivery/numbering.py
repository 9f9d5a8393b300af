"""Numbers the spans of each session, so that the store can tell whether all that a process made have arrived.

A span that is dropped takes a number too: the gap shows. The step span of ``/``, which a process exports when it is done
with a session, is the end marker; only step spans follow it.
"""

from __future__ import annotations

from otel_sessions.base import names
from otel_sessions.base.paths import ROOT
from otel_sessions.delivery.batch import Attributes

_MAX_SESSIONS = 65_536


class Numbering:
    """Counts per session, for one process named ``process``. For one thread at a time.

    When more sessions are open than it remembers it starts again under another name: numbers are never given twice.
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self._name = process
        self._restarts = 0
        self._last: dict[str, int] = {}
        self._is_sure = True

    def number(self, attributes: Attributes) -> None:
        """Add process and number to the ``attributes`` of a span; neither if it belongs to no session."""
        session = attributes.get(names.SESSION_ID)
        if isinstance(session, str):
            attributes[names.SEQUENCE] = self._next(session, 1)
            attributes[names.PROCESS] = self._name
            if self._is_sure and attributes.get(names.STEP) is True and attributes.get(names.SESSION_PATH) == ROOT:
                attributes[names.END] = True

    def skip(self, session: str, spans: int) -> None:
        """So many spans of ``session`` were dropped before they could be numbered."""
        self._next(session, spans)

    def doubt(self) -> None:
        """Spans were dropped of which it is not known whose they were: no end is certain any more."""
        self._is_sure = False

    def _next(self, session: str, spans: int) -> int:
        if session not in self._last and len(self._last) >= _MAX_SESSIONS:
            self._restarts += 1
            self._name = f"{self._process}.{self._restarts}"
            self._last.clear()
        last = self._last[session] = self._last.get(session, 0) + spans
        return last
