"""Whether an encoded batch is in ``otel_traces`` already, for when its token may have been forgotten.

Reads the start of each Native block that :func:`otel_sessions.store.rows.encode` wrote: times, trace ids, span ids.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from otel_sessions.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Key:
    """What finds one span: its start in nanoseconds since 1970, and its ids as ``otel_traces`` writes them."""

    nanoseconds: int
    trace_id: str
    span_id: str


def holds(connection: Connection, blocks: Iterable[bytes]) -> bool:
    """True if the spans of ``blocks``, which are inserted together, are in ``otel_traces``.

    They are inserted whole or not at all, per partition: one span of each month stands for the others.
    """
    keys = {_month(key.nanoseconds): key for block in blocks for key in keys_of(block)}
    return bool(keys) and all(_is_there(connection, key) for key in keys.values())


def keys_of(block: bytes) -> list[Key]:
    """The keys of the spans in ``block``, in order."""
    _, position = _varint(block, 0)
    rows, position = _varint(block, position)
    position = _after_head(block, position)
    times = struct.unpack_from(f"<{rows}q", block, position)
    trace_ids, position = _strings(block, _after_head(block, position + 8 * rows), rows)
    span_ids, _ = _strings(block, _after_head(block, position), rows)
    return [Key(*fields) for fields in zip(times, trace_ids, span_ids, strict=True)]


def _is_there(connection: Connection, key: Key) -> bool:
    parameters = {"nanoseconds": key.nanoseconds, "trace_id": key.trace_id, "span_id": key.span_id}
    return bool(connection.query(_query(), parameters).result_rows)


@cache
def _query() -> str:
    return files("otel_sessions.store").joinpath("queries/holds.sql").read_text("utf-8")


def _month(nanoseconds: int) -> str:
    # Years beyond what datetime knows share one key; no clock is that wrong.
    seconds = min(max(nanoseconds // 1_000_000_000, 0), 4_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m")


def _after_head(block: bytes, position: int) -> int:
    """The position behind a column's name and type."""
    for _ in ("name", "type"):
        length, position = _varint(block, position)
        position += length
    return position


def _strings(block: bytes, position: int, rows: int) -> tuple[list[str], int]:
    values = []
    for _ in range(rows):
        length, position = _varint(block, position)
        values.append(block[position : position + length].decode("utf-8"))
        position += length
    return values, position


def _varint(block: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = block[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
