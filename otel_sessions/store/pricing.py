"""Rows of ``model_prices``: written by us and by the user, read by the view that prices calls."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from otel_sessions.base.price import CONDITIONS, PRICES, PriceRow
from otel_sessions.store.connection import Connection

_COLUMNS = (*CONDITIONS, *PRICES, "origin", "source", "version")
_SETTINGS = {"async_insert": "0"}
_KNOWN = "SELECT DISTINCT provider, model FROM model_prices WHERE origin = 'book'"
_FORGET = """
DELETE FROM model_prices
WHERE version < {version:UInt64} AND (provider, model, origin) IN
    (SELECT provider, model, origin FROM model_prices WHERE version = {version:UInt64})
"""
_encoder = msgspec.json.Encoder()


def add_prices(connection: Connection, rows: Sequence[PriceRow], version: int) -> int:
    """Insert the rows of names that the book does not have yet; return how many rows."""
    known = {(str(provider), str(model)) for provider, model in connection.query(_KNOWN).result_rows}
    new = [row for row in rows if (row.provider, row.model) not in known]
    _insert(connection, new, version)
    return len(new)


def replace_prices(connection: Connection, rows: Sequence[PriceRow], version: int) -> None:
    """Insert ``rows`` and delete what their names had of the same origin before. ``version`` must grow."""
    # In this order no call is ever without a price.
    _insert(connection, rows, version)
    connection.command(_FORGET, {"version": version})


def _insert(connection: Connection, rows: Sequence[PriceRow], version: int) -> None:
    if rows:
        lines = _encoder.encode_lines([_record(row, version) for row in rows])
        connection.insert("model_prices", _COLUMNS, [lines], _SETTINGS, form="JSONEachRow")


def _record(row: PriceRow, version: int) -> dict[str, Any]:
    record: dict[str, Any] = {name: getattr(row, name) for name in (*CONDITIONS, "origin", "source")}
    record["valid_from"] = int(row.valid_from.timestamp())
    return {**record, **{kind: _text(getattr(row, kind)) for kind in PRICES}, "version": version}


def _text(price: Decimal | None) -> str | None:
    return None if price is None else f"{price:f}"
