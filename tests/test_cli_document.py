"""The JSON documents of the command line."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.base.paths import ROOT
from otel_sessions.cli.document import compact, decimal_text, records, to_json
from otel_sessions.store import Table


def exactly(document: str) -> object:
    """``document`` parsed without losing digits."""
    return json.loads(document, parse_float=Decimal)


def test_money_keeps_every_digit() -> None:
    """A Decimal is an exact JSON number, without exponent."""
    amounts = [Decimal("0E-12"), Decimal("0.000000000001"), Decimal("123456789012345678.000000000001"), Decimal(100)]
    document = to_json(amounts)
    assert exactly(document) == amounts
    assert "E" not in document


def test_integers_beyond_64_bits_stay_numbers() -> None:
    """UInt256 values come out as whole JSON numbers."""
    assert exactly(to_json([2**70, -(2**200), 2**63, -1])) == [2**70, -(2**200), 2**63, -1]


def test_times_are_iso_in_utc() -> None:
    """Times of any zone, or of none, come out in UTC; dates as dates."""
    there = datetime(2026, 1, 2, 5, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
    values = [there, datetime(2026, 1, 2, 3, 0), date(2026, 1, 2)]  # noqa: DTZ001 - the naive case
    assert json.loads(to_json(values)) == ["2026-01-02T03:00:00.250000Z", "2026-01-02T03:00:00Z", "2026-01-02"]


def test_what_json_cannot_say_is_null() -> None:
    """NULL, infinity and not-a-number are null."""
    assert json.loads(to_json([None, float("nan"), float("inf"), Decimal("NaN")])) == [None] * 4


def test_engine_types_become_plain() -> None:
    """Maps with any key, tuples, sets, bytes, UUIDs and addresses become what JSON has."""
    key = uuid.UUID(int=1)
    value = {1: (True, b"text", b"\xff"), key: [IPv4Address("10.0.0.1")], "s": {3}}
    assert json.loads(to_json(value)) == {"1": [True, "text", "/w=="], str(key): ["10.0.0.1"], "s": [3]}


def test_rows_become_objects_with_their_fields() -> None:
    """A dataclass becomes an object in the order of its fields."""
    table = Table(("path",), ("String",), [(ROOT,)])
    assert json.loads(to_json(table)) == {"columns": ["path"], "types": ["String"], "rows": [["/"]]}
    assert to_json(table).splitlines()[1] == '  "columns": ['


def test_columns_that_repeat_are_numbered() -> None:
    """No value is lost when a query has two columns of one name."""
    assert records(("x", "x", "y", "x"), [(1, 2, 3, 4)]) == [{"x": 1, "x_2": 2, "y": 3, "x_3": 4}]


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), st.lists))
def test_any_text_survives_as_pure_ascii(value: object) -> None:
    """The document is ASCII without control characters, and parses back to the same value."""
    document = to_json(value)
    assert all(character == "\n" or " " <= character <= "~" for character in document)
    assert json.loads(document) == value


def test_a_lone_surrogate_is_shown_rather_than_raised() -> None:
    """Text that is no valid Unicode does not end the program."""
    assert json.loads(to_json("\ud800")) == "\\ud800"


def test_cells_keep_letters() -> None:
    """On one line, for people, letters beyond ASCII stay readable."""
    assert compact(["é", {"k": Decimal("1.50")}]) == '["é",{"k":1.5}]'
    assert decimal_text(Decimal("1E+3")) == "1000"
    assert compact(datetime(2026, 1, 1, tzinfo=UTC)) == '"2026-01-01T00:00:00Z"'
