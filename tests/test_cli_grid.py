"""Tables that fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from otel_sessions.cli.text import printable
from otel_sessions.cli.views.grid import Column, figures, table

ID = "0199f3a2-7b1c-7d3e-9a55-0c1d2e3f4a5b"


def columns(name: str = "support-triage", *, identity: str = ID) -> list[Column]:
    rows = [1, 23]
    return [
        Column("ID", [Text(identity), Text("b")], right=False, fold=36),
        Column("NAME", [Text(name), Text("")], 90, right=False, cut=8),
        figures("CALLS", rows, str, 70),
        figures("COST", rows, lambda row: Text(f"${row}"), 80),
    ]


def shown(width: int, *args: str, **given: str) -> list[str]:
    return [line.plain for line in table(columns(*args, **given), width)]


def test_with_room_everything_is_whole() -> None:
    """Columns are as wide as their widest cell; lines have no trailing blanks."""
    assert shown(200) == [
        f"ID{'':36}NAME{'':12}CALLS  COST",
        f"{ID}  support-triage      1    $1",
        f"b{'':37}{'':16}   23   $23",
    ]


def test_names_are_cut_before_anything_is_left_out() -> None:
    """A column that may be cut gives way first, with an ellipsis."""
    assert shown(60)[1] == f"{ID}  support-…      1    $1"


def test_the_lightest_column_is_left_out_first() -> None:
    """Where cutting is not enough, columns go by their weight."""
    assert shown(53)[0].split() == ["ID", "NAME", "COST"]
    assert shown(47)[0].split() == ["ID", "NAME"]
    assert shown(36)[0].split() == ["ID"]


def test_ids_are_folded_and_never_cut() -> None:
    """An id that is wider than the terminal continues on the next line, every character of it."""
    lines = shown(40, identity="x" * 90)
    assert lines[0].split() == ["ID"]
    assert "".join(lines[1:-1]) == "x" * 90


@given(st.integers(36, 120), st.text(max_size=60), st.text("abc-", min_size=1, max_size=90))
def test_no_line_is_wider_than_the_terminal(width: int, name: str, identity: str) -> None:
    """From the width of an id on, every line fits, whatever is in it."""
    drawn = table(columns(printable(name), identity=identity), width)
    assert all(line.cell_len <= width for line in drawn)


def test_wide_characters_count_double() -> None:
    """Columns stay aligned behind characters that take two cells."""
    first, second, _ = table(columns("日本語"), 200)
    assert first.cell_len == second.cell_len
    assert len(second.plain) == len(first.plain) - 3
