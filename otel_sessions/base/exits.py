"""The end of the process, also where it passes by ``atexit``.

Children of :mod:`multiprocessing` and of billiard (celery's pools) leave with ``os._exit`` after running finalizers
of their own. ``os._exit`` by hand, a signal without a handler and ``kill -9`` run nothing of ours.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any

# Above 0: before the children of the child are waited for.
_PRIORITY = 10
_POOLS = ("multiprocessing.util", "billiard.util")

_callbacks: list[Callable[[], object]] = []
_joined: set[str] = set()


def at_exit(callback: Callable[[], object]) -> None:
    """Call ``callback`` when this process or one forked from it ends in order. It may be called more than once."""
    atexit.register(callback)
    _callbacks.append(callback)
    join_pools()


def join_pools() -> None:
    """Have the callbacks run in children of the process pools that are loaded by now."""
    for name in _POOLS:
        module = sys.modules.get(name)
        # A module that is still being imported has nothing to register with yet.
        if module is not None and name not in _joined and hasattr(module, "Finalize"):
            _joined.add(name)
            module.register_after_fork(at_exit, lambda _, module=module: _finalize_in(module))
            _finalize_in(module)


def _finalize_in(module: Any) -> None:
    module.Finalize(None, _run, exitpriority=_PRIORITY)


def _run() -> None:
    for callback in _callbacks:
        callback()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=join_pools)
