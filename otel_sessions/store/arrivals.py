"""What writers of this process still have on the way to a database: whoever reads in the same process waits for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from otel_sessions.store.dsn import Target

_Database = tuple[str | None, str, int | None, str]
_on_the_way: dict[_Database, list[weakref.WeakMethod[Callable[[], Any]]]] = {}


def expect(target: Target, arrive: Callable[[], object]) -> None:
    """Call the method ``arrive``, which waits until all has arrived, before each reading, as long as its object lives."""
    waiting = _on_the_way.setdefault(_database(target), [])
    waiting[:] = [one for one in waiting if one() is not None]
    waiting.append(weakref.WeakMethod(arrive))


def wait(target: Target) -> None:
    """Return when all that is expected at ``target`` has arrived, or cannot for now."""
    for method in _on_the_way.get(_database(target), ()):
        if (arrive := method()) is not None:
            arrive()


def _database(target: Target) -> _Database:
    return target.path, target.host, target.port, target.database
