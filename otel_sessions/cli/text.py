"""Values as people read them in a terminal. Whatever comes from data passes through :func:`printable`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

NOTHING = "–"  # noqa: RUF001 - a dash stands out from a minus sign
"""Stands where there is no value."""

# Control characters move the cursor or recolour, format characters reorder or hide text. A zero-width joiner stays: emoji.
_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_AGES = ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def printable(text: str) -> str:
    r"""``text`` on one line, with control and invisible characters as visible escapes (``\x1b``)."""
    return _HOSTILE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def typed(command: str, width: int) -> list[str]:
    """A shell command, indented; what ``width`` has no room for goes on in the next line, so that it can still be pasted."""
    lines = ["  "]
    # The shell takes a backslash at a line's end as none, but not within single quotes.
    for word in re.findall(r"(?:'[^']*'|[^ '])+", command):
        if lines[-1].strip() and len(lines[-1]) + len(word) + 3 > width:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1].strip() or len(lines) > 1 else word
    return lines


def count(number: int | None) -> str:
    """Exact with separators below 100,000, then in thousands, millions, billions."""
    if number is None:
        return NOTHING
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= max(size, 100_000):
            return f"{number / size:.3g}{unit}" if number < 999 * size else f"{number // size:,}{unit}"
    return f"{number:,}"


def money(amount: Decimal | None, places: int = 6) -> str:
    """US dollars with ``places`` decimals; an amount too small for them is shown as below the smallest."""
    if amount is None:
        return NOTHING
    smallest = Decimal(1).scaleb(-places)
    if 0 < amount < smallest / 2:
        return f"<${smallest:f}"
    return f"${amount:,.{places}f}"


def places(largest: Decimal | None) -> int:
    """Decimals that suit a column whose largest amount is ``largest``."""
    if largest is None or largest < Decimal("0.1"):
        return 6
    return 4 if largest < 10 else 2


def seconds(duration: float | None) -> str:
    """``840 ms``, ``1.42 s``, ``3 m 20 s``, ``2 h 05 m``."""
    if duration is None:
        return NOTHING
    if duration < 0.9995:
        return f"{duration * 1000:.0f} ms"
    if duration < 99.995:
        return f"{duration:.2f} s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} m"


def age(then: datetime, now: datetime) -> str:
    """How long ago in one unit: ``3m``, ``5h``, ``12d``; ``now`` below a second and in the future."""
    passed = (now - then).total_seconds()
    for size, unit in _AGES:
        if passed >= size:
            return f"{int(passed / size)}{unit}"
    return "now"


def ago(then: datetime, now: datetime) -> str:
    """:func:`age` as part of a sentence: ``3m ago``, ``now``."""
    passed = age(then, now)
    return passed if passed == "now" else f"{passed} ago"


def moment(then: datetime) -> str:
    """``2026-11-22 14:50:23 UTC``."""
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def parse_moment(text: str, now: datetime) -> datetime:
    """The UTC time that ``2h``, ``1d``, ``2026-11-22`` or ``2026-11-22T14:50`` names; ages count back from ``now``.

    A time without zone is UTC. Raises ``ValueError``.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    try:
        if match:
            unit = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[match[2]]
            return now - timedelta(seconds=float(match[1]) * unit)
        parsed = datetime.fromisoformat(text.strip())
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is neither an age (30m, 2h, 1d, 1w) nor an ISO 8601 time") from error
