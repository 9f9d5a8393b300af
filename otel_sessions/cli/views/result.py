"""The result of a query: a table where it fits, else one record below the other; or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal

from rich.cells import cell_len
from rich.text import Text

from otel_sessions.cli import text
from otel_sessions.cli.document import compact
from otel_sessions.cli.views.grid import Column, fits, table
from otel_sessions.store import Table

_CUT = 24


def result(found: Table, width: int) -> list[Text]:
    """The lines that show ``found``."""
    columns = [_column(found, at) for at in range(len(found.columns))]
    if not found.rows:
        return [Text("no rows", "dim")]
    return table(columns, width) if fits(columns, width) else _records(found, width)


def to_csv(found: Table) -> str:
    """RFC 4180 text with a header line; NULL is an empty field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(found.columns)
    writer.writerows([_plain(value) for value in row] for row in found.rows)
    return stream.getvalue().removesuffix("\n")


def _column(found: Table, at: int) -> Column:
    values = [row[at] for row in found.rows]
    numbers = all(isinstance(value, int | float | Decimal | None) for value in values)
    cells = [_cell(value) for value in values]
    return Column(text.printable(found.columns[at]), cells, right=numbers, cut=None if numbers else _CUT)


def _cell(value: object) -> Text:
    return Text("NULL", "dim") if value is None else Text(text.printable(_plain(value)))


def _plain(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    shown = compact(value)
    return shown[1:-1] if shown.startswith('"') else shown


def _records(found: Table, width: int) -> list[Text]:
    names = [text.printable(name) for name in found.columns]
    margin = max(map(cell_len, names)) + 2
    shown: list[Text] = []
    for number, row in enumerate(found.rows, 1):
        shown.append(Text(f"── row {number} ".ljust(min(width, 60), "─"), "dim"))
        for name, value in zip(names, row, strict=True):
            shown += _record(name, _cell(value), margin, width)
    return shown


def _record(name: str, value: Text, margin: int, width: int) -> Sequence[Text]:
    room = max(10, width - margin)
    parts = value.divide(range(room, len(value.plain), room)) if len(value.plain) > room else [value]
    return [Text.assemble((name if at == 0 else "").ljust(margin), part) for at, part in enumerate(parts)]
