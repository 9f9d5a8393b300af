"""Cutting: no attribute value is longer than the limit, and what is short enough is not touched."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

from otel_sessions.base.group import grouped
from otel_sessions.base.guard import counters
from otel_sessions.delivery import cutting

CONTEXT = SpanContext(1, 2, is_remote=False)


def span(attributes: dict[str, Any] | None = None, **parts: Any) -> ReadableSpan:
    return ReadableSpan("x", CONTEXT, attributes=attributes, start_time=1, end_time=2, **parts)


def cut(given: ReadableSpan) -> tuple[ReadableSpan, dict[str, Any]]:
    """The span, and its attributes, after the stage."""
    [group] = cutting(100)(grouped([given])[0])
    [attributes] = group.rows()
    return group.spans[0], attributes


def test_what_fits_is_the_same_span() -> None:
    """A span with nothing too long is passed on as it is, not copied."""
    usual = span(
        {"text": "a" * 100, "n": 10**30, "none": None, "list": ["a" * 40, "b" * 40], "map": {"a": {"b": 1.0}}},
        events=[Event("e", {"k": "v"}, 1)],
        links=[Link(CONTEXT, {"k": "v"})],
    )
    for given in (usual, span()):
        result, attributes = cut(given)
        assert result is given
        assert attributes == dict(given.attributes or {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a" * 101, "a" * 100 + "… (cut, 101 characters)"),
        (b"a" * 101, b"a" * 100),
        (("a" * 60, "b" * 60), "(cut, a tuple of more than 100 characters)"),
        ({"a": {"b": "c" * 200}}, "(cut, a dict of more than 100 characters)"),
        ((1,) * 101, "(cut, a tuple of more than 100 characters)"),
    ],
)
def test_values_beyond_the_limit_are_cut_and_counted(value: Any, expected: Any) -> None:
    """Text and bytes keep their start, arrays and maps are replaced; the rest of the span stays as it was."""
    before = counters().get("attribute.cut", 0)
    given = span({"long": value, "short": 1}, events=[Event("e", {"k": value}, 5)], links=[Link(CONTEXT, {"k": value})])
    result, attributes = cut(given)
    assert attributes == {"long": expected, "short": 1}
    assert [dict(event.attributes or {}) for event in result.events] == [{"k": expected}]
    assert [dict(link.attributes or {}) for link in result.links] == [{"k": expected}]
    assert (result.name, result.context, result.start_time, result.end_time) == ("x", CONTEXT, 1, 2)
    assert (result.events[0].name, result.events[0].timestamp) == ("e", 5)
    assert counters()["attribute.cut"] == before + 1


def test_an_endless_structure_is_not_walked_to_its_end() -> None:
    """Measuring stops soon after the limit, so that a huge array costs little."""
    asked = 0

    class Counting(str):
        __slots__ = ()

        def __len__(self) -> int:
            nonlocal asked
            asked += 1
            return 50

    _, attributes = cut(span({"long": [Counting("x")] * 90}))
    assert str(attributes["long"]).startswith("(cut")
    assert asked < 10
