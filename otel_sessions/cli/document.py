"""One JSON document per command.

Money and wide integers are exact JSON numbers, times ISO 8601 in UTC, NULL and what is not a number are ``null``.
The text is pure ASCII, so that nothing in the data can reach a terminal as a control character.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from types import UnionType
from typing import Any

import msgspec

_NOT_ASCII = re.compile("[^\x00-\x7e]")
_WIDEST = 2**63


def to_json(value: object) -> str:
    """``value`` (rows, dataclasses, plain containers) as an indented JSON document."""
    encoded = msgspec.json.encode(plain(value))
    return _NOT_ASCII.sub(_escape, msgspec.json.format(encoded, indent=2).decode())


def compact(value: object) -> str:
    """``value`` as JSON on one line, with all characters as they are."""
    return msgspec.json.encode(plain(value)).decode()


def records(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[dict[str, object]]:
    """Rows as objects; a column name that repeats gets ``_2``, ``_3``, …."""
    names: list[str] = []
    for column in columns:
        name, turn = column, 2
        while name in names:
            name, turn = f"{column}_{turn}", turn + 1
        names.append(name)
    return [dict(zip(names, row, strict=True)) for row in rows]


def plain(value: object) -> Any:
    """``value`` in the types that JSON has."""
    for types, convert in _CONVERSIONS:
        if isinstance(value, types):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value if value is None else str(value)


def decimal_text(value: Decimal) -> str:
    """``value`` exactly, without exponent and trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def iso(value: date) -> str:
    """ISO 8601; times in UTC, where a time without zone is taken as UTC."""
    if not isinstance(value, datetime):
        return value.isoformat()
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2], 'big'):04x}" for at in range(0, len(units), 2))


def _number(value: int) -> Any:
    return value if -_WIDEST <= value < _WIDEST else msgspec.Raw(str(value).encode())


# In this order: a bool is an int, a datetime a date, a str a sequence.
_CONVERSIONS: tuple[tuple[type | UnionType, Callable[[Any], Any]], ...] = (
    (bool, lambda value: value),
    (int, _number),
    (float, lambda value: value if math.isfinite(value) else None),
    (Decimal, lambda value: msgspec.Raw(decimal_text(value).encode()) if value.is_finite() else None),
    (str, lambda value: value.encode("utf-8", "backslashreplace").decode()),
    (bytes, _text_of),
    (date, iso),
    (Mapping, lambda value: {str(plain(key)): plain(item) for key, item in value.items()}),
    (Sequence | set | frozenset, lambda value: [plain(item) for item in value]),
)
