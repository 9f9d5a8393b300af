"""A destination that programs of their own can share: a folder with one file per token, and a flag that it is away."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.base.group import SpanGroup
from otel_sessions.delivery import Delivery, Limits, SpoolPlace, spool_place
from otel_sessions.delivery.batch import Batch

DSN = "http://folder:8123/otel"


def encode(groups: Sequence[SpanGroup]) -> bytes:
    """A line per span."""
    return "".join(json.dumps(span.name) + "\n" for group in groups for span in group.spans).encode()


def decode(body: bytes) -> list[str]:
    """The names of the spans in ``body``."""
    return [json.loads(line) for line in body.splitlines() if line.startswith(b'"')]


def batch_of(token: str, spans: int, *pieces: bytes) -> Batch:
    """A batch with these pieces."""
    return Batch(token, spans, pieces, sum(map(len, pieces)))


class Folder:
    """Like a store that knows tokens: a batch that comes twice counts once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.batches = path / "batches"
        self.batches.mkdir(parents=True, exist_ok=True)

    @property
    def is_away(self) -> bool:
        return (self.path / "away").exists()

    @is_away.setter
    def is_away(self, away: bool) -> None:
        flag = self.path / "away"
        flag.touch() if away else flag.unlink(missing_ok=True)

    def send(self, body: Iterable[bytes], token: str) -> None:
        if self.is_away:
            raise StoreUnavailableError("the folder is away")
        part = self.path / f"{token}.{os.getpid()}.{threading.get_ident()}"
        part.write_bytes(b"".join(body))
        part.replace(self.batches / token)

    def place(self, max_bytes: int = 50_000_000) -> SpoolPlace:
        return spool_place(self.path / "spool", DSN, max_bytes, "folder")

    def names(self) -> list[str]:
        """Every span that arrived, as often as it arrived under different tokens."""
        return sorted(name for path in self.batches.iterdir() for name in decode(path.read_bytes()))

    def deliver(self, limits: Limits | None = None, **more: Any) -> tuple[Delivery, Callable[[str, int], None]]:
        """A delivery to this folder with a spool, and a function that makes so many spans of that name."""
        more = {"spool": self.place(), "encode": encode, **more}
        delivery = Delivery(str(self.path), self.send, limits=limits or Limits(10_000, 100, 0.1), **more)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(delivery)
        tracer = provider.get_tracer("tests")

        def make(name: str, spans: int) -> None:
            for number in range(spans):
                tracer.start_span(f"{name}-{number}").end()

        return delivery, make


def named(name: str, spans: int) -> list[str]:
    """What :meth:`Folder.names` says when ``spans`` spans of that name arrived once each."""
    return sorted(f"{name}-{number}" for number in range(spans))
