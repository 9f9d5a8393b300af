"""Values as people read them in a terminal."""

from __future__ import annotations

import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.cli import text

COMMAND = """otel-sessions --store 'chdb:///a  b/c d' sql "SELECT path, calls, cost_usd FROM path_templates\""""
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@given(st.text())
def test_nothing_that_a_terminal_obeys_survives(value: str) -> None:
    """Whatever the data holds, what is printed has no control or invisible character and stays on one line."""
    shown = text.printable(value)
    assert all(character.isprintable() or character in " \u200d" or ord(character) > 0x7F for character in shown)
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in shown)
    assert text.printable(shown) == shown


@pytest.mark.parametrize("width", [20, 40, 79, 80, 1000])
def test_a_command_to_type_fits_the_terminal_and_means_the_same(width: int) -> None:
    """Broken between words, never within single quotes; a shell reads the same words from it."""
    shown = text.typed(COMMAND, width)
    longest = max(map(len, COMMAND.split(" "))) + 10
    assert max(map(len, shown)) <= max(width, longest)
    script = "printf '%s\\0' " + "\n".join(shown)
    read = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True).stdout.split("\0")[:-1]
    assert [" ".join(word.split()) if "SELECT" in word else word for word in read] == shlex.split(COMMAND)
    assert len(shown) == 1 or width < 1000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain Ünïcode 🧑‍🚀 %2F", "plain Ünïcode 🧑‍🚀 %2F"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("\ud800", "\\ud800"),
        ("tag\U000e0041", "tag\\U000e0041"),
    ],
)
def test_hostile_characters_are_shown_as_escapes(value: str, shown: str) -> None:
    """Control, bidirectional and invisible characters become visible; everything else stays as it is."""
    assert text.printable(value) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "–"),  # noqa: RUF001
        (0, "0"),
        (99_999, "99,999"),
        (100_000, "100k"),
        (123_456, "123k"),
        (999_999, "999k"),
        (1_234_567, "1.23M"),
        (5_000_000_000, "5B"),
        (10**15, "1,000,000B"),
    ],
)
def test_counts_are_exact_until_they_are_long(number: int | None, shown: str) -> None:
    """Counts below 100,000 are exact, larger ones have three digits and a unit."""
    assert text.count(number) == shown


@pytest.mark.parametrize(
    ("amount", "places", "shown"),
    [
        (None, 6, "–"),  # noqa: RUF001
        (Decimal(0), 6, "$0.000000"),
        (Decimal("0.0000000001"), 6, "<$0.000001"),
        (Decimal("0.0123456"), 6, "$0.012346"),
        (Decimal("1234.5"), 2, "$1,234.50"),
    ],
)
def test_money_never_looks_like_nothing(amount: Decimal | None, places: int, shown: str) -> None:
    """A tiny amount is shown as below the smallest, an unknown one as a dash, only zero as zero."""
    assert text.money(amount, places) == shown


def test_decimals_follow_the_largest_amount_of_a_column() -> None:
    """Small amounts get six decimals, large ones two."""
    assert [text.places(value) for value in (None, Decimal("0.01"), Decimal(1), Decimal(50))] == [6, 6, 4, 2]


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (None, "–"),  # noqa: RUF001
        (0.0, "0 ms"),
        (0.0416, "42 ms"),
        (0.9996, "1.00 s"),
        (1.416, "1.42 s"),
        (99.996, "1 m 40 s"),
        (200.0, "3 m 20 s"),
        (3_599.9, "1 h 00 m"),
        (7_500.0, "2 h 05 m"),
    ],
)
def test_durations_have_three_digits_or_two_units(duration: float | None, shown: str) -> None:
    """Durations are in milliseconds, seconds, minutes or hours, and round up into the next unit."""
    assert text.seconds(duration) == shown


@pytest.mark.parametrize(
    ("passed", "shown"),
    [(-5, "now"), (0.4, "now"), (59, "59s"), (200, "3m"), (7_300, "2h"), (12 * 86_400, "12d"), (800 * 86_400, "2y")],
)
def test_ages_have_one_unit(passed: float, shown: str) -> None:
    """An age is told in its largest unit; clocks that disagree give ``now``."""
    assert text.age(NOW - timedelta(seconds=passed), NOW) == shown


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("1.5d", NOW - timedelta(hours=36)),
        ("1w", NOW - timedelta(days=7)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00+02:00", datetime(2026, 11, 20, 8, tzinfo=UTC)),
    ],
)
def test_times_are_ages_or_iso(given_text: str, expected: datetime) -> None:
    """A time on the command line is an age that counts back from now, or ISO 8601, in UTC without a zone."""
    assert text.parse_moment(given_text, NOW) == expected


@pytest.mark.parametrize("wrong", ["", "yesterday", "2x", "99999999999w", "2026-13-01"])
def test_other_times_are_refused(wrong: str) -> None:
    """What is no time is refused with both forms that are allowed."""
    with pytest.raises(ValueError, match=r"neither an age .* nor an ISO 8601 time"):
        text.parse_moment(wrong, NOW)
