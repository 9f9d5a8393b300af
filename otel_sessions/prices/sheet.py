"""A user's own prices as a CSV file: read with every mistake named by its line, and written in the same form.

The header names the columns, those of :class:`~otel_sessions.base.price.PriceRow`: ``provider``, ``model`` and at least
``input`` or ``output``; any others may be left out. Prices are US dollars per million tokens.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from operator import itemgetter
from typing import Any

from otel_sessions.base.errors import PriceFileError
from otel_sessions.base.price import ALWAYS, CONDITIONS, PRICES, PriceRow
from otel_sessions.prices.book import LONGEST_NAME

COLUMNS = (*CONDITIONS, *PRICES, "source")
_REQUIRED = ("provider", "model")
_LARGEST_PRICE = 100_000
_MAX_DECIMALS = 18
_LATEST = datetime(2106, 1, 1, tzinfo=UTC)

# What a kind of token costs where the file does not say, as with genai-prices: what the more general kind does. Where
# two general kinds meet, it is the one without the discount.
_GENERAL = (
    ("cached_input", "input"), ("cache_write", "input"), ("cache_write_1h", "cache_write"), ("audio_input", "input"),
    ("cached_audio_input", "audio_input"), ("image_input", "input"), ("cached_image_input", "image_input"),
    ("video_input", "input"), ("reasoning", "output"), ("audio_output", "output"), ("image_output", "output"),
    ("video_output", "output"),
)  # fmt: skip


@dataclass(slots=True)
class _Sheet:
    """What was read so far, and what was wrong with it."""

    name: str
    rows: dict[tuple[Any, ...], tuple[int, PriceRow]] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, line: int, mistake: str) -> None:
        """Note a mistake."""
        self.mistakes.append((line, mistake))


def read_prices(text: str, name: str) -> list[PriceRow]:
    """The rows of the CSV file ``name`` whose content is ``text``, as prices of the user's own.

    Raises :class:`PriceFileError` that lists all mistakes, each with its line.
    """
    sheet = _Sheet(name)
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        if _check_header(sheet, header):
            for fields in reader:
                if any(value.strip() for value in fields):
                    _read_line(sheet, reader.line_num, header, fields)
    except csv.Error as error:
        sheet.refuse(reader.line_num, f"this is not CSV: {error}")
    _check_bases(sheet)
    if sheet.mistakes or not sheet.rows:
        raise PriceFileError(
            name,
            [f"line {at}: {what}" for at, what in sorted(sheet.mistakes, key=itemgetter(0))] or ["no prices in it"],
        )
    return [row for _, row in sheet.rows.values()]


def write_prices(rows: Iterable[PriceRow]) -> str:
    """``rows`` as CSV that :func:`read_prices` takes."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_written(column, getattr(row, column)) for column in COLUMNS] for row in rows)
    return stream.getvalue()


def _check_header(sheet: _Sheet, header: Sequence[str]) -> bool:
    for column in header:
        if column not in COLUMNS:
            close = difflib.get_close_matches(column, COLUMNS, 1)
            hint = f"did you mean {close[0]}?" if close else f"columns are {', '.join(COLUMNS)}"
            sheet.refuse(1, f"unknown column {column!r}; {hint}")
        elif header.count(column) > 1:
            sheet.refuse(1, f"column {column} stands there twice")
    for column in _REQUIRED:
        if column not in header:
            sheet.refuse(1, f"column {column} is missing")
    if not {"input", "output"} & {*header}:
        sheet.refuse(1, "column input or output is missing")
    return not sheet.mistakes


def _read_line(sheet: _Sheet, line: int, header: Sequence[str], fields: Sequence[str]) -> None:
    if len(fields) != len(header):
        sheet.refuse(line, f"{len(fields)} fields, the header has {len(header)}")
        return
    given = {column: value.strip() for column, value in zip(header, fields, strict=True) if value.strip()}
    values: dict[str, Any] = {}
    for column, value in given.items():
        try:
            values[column] = _value(column, value)
        except ValueError as error:
            sheet.refuse(line, f"{column}: {error}")
    missing = [column for column in _REQUIRED if column not in given]
    for column in missing:
        sheet.refuse(line, f"{column} is empty")
    if not {"input", "output"} & given.keys():
        sheet.refuse(line, "neither input nor output has a price")
    elif len(values) == len(given) and not missing:
        _keep(sheet, line, _complete(values, sheet.name))


def _keep(sheet: _Sheet, line: int, row: PriceRow) -> None:
    condition = tuple(getattr(row, name) for name in CONDITIONS)
    if condition in sheet.rows:
        sheet.refuse(line, f"the same model and conditions as in line {sheet.rows[condition][0]}")
    sheet.rows.setdefault(condition, (line, row))


def _check_bases(sheet: _Sheet) -> None:
    """A price for large inputs, or from an hour on, needs one for the rest."""
    for line, row in sheet.rows.values():
        for name in ("tier_start", "time_from"):
            base = tuple(0 if condition == name else getattr(row, condition) for condition in CONDITIONS)
            if base not in sheet.rows:
                sheet.refuse(line, f"{name} is {getattr(row, name)}, and no line has the price from {name} 0 on")


def _complete(values: Mapping[str, Any], name: str) -> PriceRow:
    row = PriceRow(**{"source": name, **values, "origin": "user"})
    for kind, general in _GENERAL:
        if getattr(row, kind) is None:
            row = replace(row, **{kind: getattr(row, general)})
    return row


def _value(column: str, value: str) -> Any:
    if column in PRICES:
        return _price(value)
    if column == "valid_from":
        return _moment(value)
    if column == "time_from":
        return _second(value)
    if column == "tier_start":
        return _count(value)
    if len(value) > LONGEST_NAME:
        raise ValueError(f"longer than {LONGEST_NAME} characters")
    return value


def _price(value: str) -> Decimal:
    try:
        price = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number; write US dollars as 2.50, without sign and separators") from None
    if not price.is_finite() or not 0 <= price <= _LARGEST_PRICE:
        raise ValueError(f"{value!r} is not a price from 0 to {_LARGEST_PRICE:,}")
    if -int(price.normalize().as_tuple().exponent) > _MAX_DECIMALS:
        raise ValueError(f"{value!r} has more than {_MAX_DECIMALS} decimals")
    return price


def _moment(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a date; write 2026-11-22 or 2026-11-22T08:00:00Z") from None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    if not ALWAYS <= moment < _LATEST:
        raise ValueError(f"{value!r} is not between 1970 and 2106")
    return moment


def _second(value: str) -> int:
    try:
        moment = time.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a time of day; write 16:30 (UTC)") from None
    if moment.tzinfo is not None or moment.microsecond:
        raise ValueError(f"{value!r} has a zone or a fraction; write 16:30 (UTC)")
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def _count(value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 12:
        raise ValueError(f"{value!r} is not a number of tokens; write 200000")
    return int(value)


def _written(column: str, value: Any) -> str:
    if column == "time_from":
        return f"{value // 3600:02}:{value % 3600 // 60:02}:{value % 60:02}" if value else ""
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value.normalize():f}"
        case datetime():
            return "" if value == ALWAYS else value.strftime("%Y-%m-%dT%H:%M:%SZ").replace("T00:00:00Z", "")
    return str(value)
