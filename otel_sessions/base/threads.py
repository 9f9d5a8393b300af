"""Threads of our own, their locks and what they wait on: real ones also where gevent makes greenlets of threads.

As a greenlet, a delivery would stop all greenlets of its host for as long as the engine works, in native code, or
spans are encoded. And what real threads share, gevent's locks do not keep well: waiting for one, its loop may find that
nothing else is to come, and raise. Ours are held for moments only, and nobody may wait for the host while holding one.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from _queue import SimpleQueue
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from queue import Empty
from typing import Any, Protocol

_POLL_SECONDS = 0.01


class Running(Protocol):
    """A thread that was started."""

    def join(self, timeout: float) -> None:
        """Wait until it has ended, ``timeout`` seconds at most."""


class Lock(AbstractContextManager[bool], Protocol):
    """What :func:`new_lock` and :func:`new_rlock` return."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:  # noqa: FBT001 - as of threading.Lock
        """Take it."""

    def release(self) -> None:
        """Give it back."""


def has_greenlets() -> bool:
    """Whether gevent makes greenlets of the threads that are started now."""
    monkey = _monkey()
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def start_thread(run: Callable[[], object], name: str) -> Running | None:
    """Call ``run`` in a real thread that does not keep the process from ending.

    None if there can be none: the interpreter is ending, or the system has no more. Then ask again later.
    """
    try:
        if has_greenlets():
            return _Native(run, name)
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
    except (RuntimeError, MemoryError):
        return None
    return thread


class _Native:
    """A thread that gevent has not made a greenlet of."""

    def __init__(self, run: Callable[[], object], name: str) -> None:
        self._run = run
        self._name = name
        self._ended = False
        _original("_thread", "start_new_thread")(self._work, ())

    def join(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while not self._ended and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)

    def _work(self) -> None:
        try:
            threading.current_thread().name = self._name
            self._run()
        finally:
            self._ended = True


def new_lock() -> Lock:
    """A lock that real threads share."""
    lock: Lock = _original("_thread", "allocate_lock")()
    return lock


def new_rlock() -> Lock:
    """A reentrant lock that real threads share. All greenlets of a thread are one holder."""
    lock: Lock = _original("_thread", "RLock")()
    return lock


def new_queue() -> SimpleQueue[Any]:
    """A queue whose ``put`` is reentrant, and lets no other greenlet in."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        # Our threads are greenlets then, and waiting in native code would stop all others.
        return queue.SimpleQueue()
    return SimpleQueue()


def give_way(seconds: float = 0.0) -> None:
    """Hand the interpreter to a thread that wants it, and not to another greenlet of this one."""
    _original("time", "sleep")(seconds)


class Bell:
    """Wakes the one thread that waits for it; who rings does not wait and takes no lock."""

    def __init__(self) -> None:
        self._rings = new_queue()

    def ring(self) -> None:
        """Wake the thread that waits, or the next one that would."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """For threads of our own: wait for a ring since the last wait; False if none came in ``timeout`` seconds."""
        try:
            self._rings.get(timeout=timeout)
        except Empty:
            return False
        with suppress(Empty):
            while True:
                self._rings.get_nowait()
        return True

    def wait_in_host(self, timeout: float) -> None:
        """For threads of the host: as :meth:`wait`; where they are greenlets, the others go on meanwhile."""
        if not has_greenlets():
            self.wait(timeout)
        elif self._rings.empty():
            time.sleep(min(timeout, _POLL_SECONDS))
        else:
            self.wait(0)


def _monkey() -> Any:
    # Never imported: who has not, has no greenlets.
    return sys.modules.get("gevent.monkey")


def _original(module: str, name: str) -> Any:
    monkey = _monkey()
    return getattr(sys.modules[module], name) if monkey is None else monkey.get_original(module, name)
