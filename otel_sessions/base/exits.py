"""The end of the process, also where it passes by ``atexit``.

Children of :mod:`multiprocessing` leave with ``os._exit`` after running finalizers of their own, celery's after a signal
of its own. uvicorn ends in order when it gets a signal, and then raises it again without a handler. ``os._exit`` by hand,
a signal from outside without a handler and ``kill -9`` run nothing of ours.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from otel_sessions.base.guard import guarded

# Above 0: before the children of the child are waited for.
_PRIORITY = 10

_ENDING = {getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGBREAK")}

_callbacks: list[Callable[[], object]] = []
_joined: set[str] = set()


def at_exit(callback: Callable[[], object]) -> None:
    """Call ``callback`` when this process or one forked from it ends in order. It may be called more than once."""
    if not _callbacks:
        _join_signals()
    _callbacks.append(callback)
    come_first()
    join_pools()


def come_first() -> None:
    """Have the callbacks run before all exit handlers that were registered until now; the last one is the first to run.

    Called again when a store was opened: its engine and its driver close themselves at exit.
    """
    for callback in _callbacks:
        atexit.unregister(callback)
        atexit.register(callback)


def join_pools() -> None:
    """Have the callbacks run in the children of those process pools whose modules are loaded by now."""
    for name, join in {"multiprocessing.util": _join_multiprocessing, "celery.signals": _join_celery}.items():
        module = sys.modules.get(name)
        # A module that is still being imported has nothing to join yet.
        if module is not None and name not in _joined and not getattr(module.__spec__, "_initializing", False):
            _joined.add(name)
            join(module)


def _join_multiprocessing(util: Any) -> None:
    def finalize(_: object = None) -> None:
        util.Finalize(None, _run, exitpriority=_PRIORITY)

    # A child that was forked forgets the finalizers of its parent; one that was spawned comes here by itself.
    util.register_after_fork(at_exit, finalize)
    finalize()


def _join_celery(signals: Any) -> None:
    signals.worker_process_shutdown.connect(_run, weak=False)


def _run(**_: object) -> None:
    for callback in _callbacks:
        callback()


def _join_signals() -> None:
    """Have the callbacks run before the process ends by a signal that it raises itself."""
    raise_signal = signal.raise_signal

    @functools.wraps(raise_signal)
    def wrapper(signalnum: int, /) -> None:
        with guarded("exit"):
            if signalnum in _ENDING and signal.getsignal(signalnum) is signal.SIG_DFL:
                _run()
        raise_signal(signalnum)

    signal.raise_signal = wrapper


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=join_pools)
