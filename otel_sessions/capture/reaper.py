"""Ends exchanges whose stream was dropped, and knows the ones that are open.

A finaliser may run in the middle of anything, also while this very thread holds a span processor's lock, so it must
not end a span. It leaves the exchange in a queue, whose ``put`` is reentrant, for a daemon thread.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from queue import Empty
from typing import Any, Protocol

from otel_sessions.base.guard import guarded
from otel_sessions.base.threads import new_queue, start_thread


class Exchange(Protocol):
    """What is ended here."""

    done: bool
    """Whether the exchange has ended; set from outside, it never will."""

    def finish(self, end: str) -> None:
        """End the exchange; only the first call has an effect."""


_queue = new_queue()
_open: set[Exchange] = set()
_state: dict[str, Any] = {"collecting": None}
runs = False
"""Whether :func:`ensure_thread` has started the thread in this process."""

opened: Callable[[Exchange], None] = _open.add
"""Remember an exchange until :func:`closed`. No function of ours around it: it runs for every call."""
closed: Callable[[Exchange], None] = _open.discard
"""Forget an exchange."""


def reap(exchange: Exchange, end: str) -> None:
    """Have ``exchange`` ended soon. Safe in finalisers: takes no lock, starts no thread."""
    _queue.put((exchange, end))


def drain() -> None:
    """End, here and now, everything that waits to be ended."""
    while True:
        try:
            exchange, end = _queue.get_nowait()
        except Empty:
            return
        _finish(exchange, end)


def finish_open() -> None:
    """End every exchange that is still open; its response may go on being read, but is no longer observed."""
    drain()
    for exchange in tuple(_open):
        _finish(exchange, "abandoned")


def in_collector() -> bool:
    """Whether this thread is inside the garbage collector, where a generator's ``finally`` may run too."""
    return bool(_state["collecting"] == threading.get_ident())


def ensure_thread() -> None:
    """Start the thread that ends what :func:`reap` leaves, once per process."""
    global runs  # noqa: PLW0603 - one per process
    if not runs:
        runs = True  # for other threads that come here meanwhile
        runs = start_thread(_run, "otel-sessions-reaper") is not None


def watch_collector() -> None:
    """Have :func:`in_collector` answer from now on."""
    if _on_collect not in gc.callbacks:
        gc.callbacks.append(_on_collect)


def unwatch_collector() -> None:
    """Undo :func:`watch_collector`."""
    if _on_collect in gc.callbacks:
        gc.callbacks.remove(_on_collect)


def _on_collect(phase: str, _info: dict[str, int]) -> None:
    _state["collecting"] = threading.get_ident() if phase == "start" else None


def _run() -> None:
    while True:
        exchange, end = _queue.get()
        _finish(exchange, end)
        del exchange


def _finish(exchange: Exchange, end: str) -> None:
    with guarded("capture.finish"):
        exchange.finish(end)


def _after_fork() -> None:
    """The parent ends its exchanges; the child starts with none, and without the parent's thread."""
    global _queue, runs
    _queue, runs = new_queue(), False
    for exchange in _open:
        exchange.done = True
    _open.clear()
    _state.update(collecting=None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
