"""The one guard between our code and the host, and the counters that say what it caught.

Inside the host's request path nothing of ours may raise. Every entry from the host passes through
:func:`guarded`: a failure is counted under a name and logged once per minute.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager, ContextDecorator, suppress
from functools import partial
from traceback import walk_tb
from types import TracebackType

from otel_sessions.base.threads import new_rlock

logger = logging.getLogger("otel_sessions")

_LOG_INTERVAL_SECONDS = 60.0
_counts: Counter[str] = Counter()
_logged_at: dict[str, float] = {}
# reentrant: the garbage collector may run host code that ends in here while a count is taken
_lock = new_rlock()


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it when the process was forked
    _lock = new_rlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def count(name: str, message: str | None = None, *args: object, exc_info: bool = False) -> None:
    """Add one to the counter ``name``; log ``message % args`` as a warning, at most once a minute per name."""
    with _lock:
        _counts[name] += 1
        now = time.monotonic()
        due = message is not None and now - _logged_at.get(name, -_LOG_INTERVAL_SECONDS) >= _LOG_INTERVAL_SECONDS
        if due:
            _logged_at[name] = now
    if due and message is not None:
        say(logging.WARNING, message, *args, exc_info=exc_info)


def say(level: int, message: str, *args: object, exc_info: bool = False) -> None:
    """Log ``message % args``. What the host's log handlers and filters raise goes nowhere: we have no better place."""
    with suppress(Exception):
        logger.log(level, message, *args, exc_info=exc_info)


def counters() -> dict[str, int]:
    """What was counted in this process so far, by name."""
    with _lock:
        return dict(_counts)


def guarded(name: str) -> AbstractContextManager[None, bool]:
    """Swallow, count and log any ``Exception`` of the block that is ours. Cancellation and exit signals pass."""
    return _Guard(name)


class _Guard(ContextDecorator, AbstractContextManager[None, bool]):
    """A class, because a generator-based context manager costs four times as much on the request path."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        caught(self._name)
        return True


def caught(name: str) -> None:
    """Count and log the exception that is being handled, as :func:`guarded` does.

    For ``except Exception`` on the request path: a block that costs nothing unless it fails. What a signal handler of
    the host has raised in the middle of our code, a timeout for one, is raised again: it is meant for the host.
    """
    error = sys.exc_info()[1]
    if error is not None and _is_of_signal_handler(error):
        raise error
    count(f"error.{name}", "otel-sessions: %s failed; the host goes on without it", name, exc_info=True)


def _is_of_signal_handler(error: BaseException) -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False  # Python runs handlers in that one only
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    codes = {_code_of(handler) for handler in handlers if callable(handler)}
    return any(frame.f_code in codes for frame, _ in walk_tb(error.__traceback__))


def _code_of(handler: object) -> object:
    while isinstance(handler, partial):
        handler = handler.func
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
