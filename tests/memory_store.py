"""A store of a test's own: a database in the engine of the process, with our schema."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from otel_sessions.store import Store, open_store


@contextmanager
def memory_store() -> Iterator[Store]:
    """An empty store, for the time of the block."""
    with open_store(f"chdb://memory?database=t{uuid.uuid4().hex}") as opened:
        opened.migrate()
        yield opened
