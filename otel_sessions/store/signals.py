"""The host's signal handlers, kept through the opening of chDB.

The engine puts its own in their place, for its crash reports: gunicorn, say, could then no longer tell a worker that
takes too long to end, nor would faulthandler speak.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from otel_sessions.base.guard import guarded

_NAMES = ("SIGABRT", "SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGTSTP")
# More than any system's struct sigaction has.
_SIZE = 512


@contextmanager
def kept_handlers() -> Iterator[None]:
    """The block changes no handler. By way of C: ``signal.signal`` works in the main thread only."""
    before: dict[int, ctypes.Array[ctypes.c_char]] = {}
    with guarded("signals"):
        sigaction = ctypes.CDLL(None).sigaction
        for name in _NAMES:
            kept = ctypes.create_string_buffer(_SIZE)
            if sigaction(getattr(signal, name), None, kept) == 0:
                before[getattr(signal, name)] = kept
    try:
        yield
    finally:
        for number, kept in before.items():
            sigaction(number, kept, None)
