"""Groups: spans by the names of their attributes, and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base.group import SpanGroup, grouped

ATTRIBUTES = st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3), max_size=30)


def described(groups: list[SpanGroup]) -> dict[str, dict[str, object]]:
    return {span.name: row for group in groups for span, row in zip(group.spans, group.rows(), strict=True)}


@given(ATTRIBUTES)
def test_each_span_keeps_its_attributes(attributes: list[dict[str, int]]) -> None:
    """Grouped, divided and alone: no span is lost, and each has the values that it came with."""
    spans = [ReadableSpan(str(number), attributes=each) for number, each in enumerate(attributes)]
    groups = grouped(spans)
    expected = {str(number): each for number, each in enumerate(attributes)}
    assert described(groups) == expected
    assert len({frozenset(group.columns) for group in groups}) <= len({tuple(each) for each in attributes})
    assert described([one for group in groups for one in group.singles()]) == expected
    parts = [
        (key, part) for group in groups for key, part in group.split([len(span.name) for span in group.spans]).items()
    ]
    assert described([part for _, part in parts]) == expected
    assert all(len(span.name) == key for key, part in parts for span in part.spans)


def test_what_a_span_was_given_stands_for_what_it_says() -> None:
    """Attributes beside the spans, and columns that are added, change no span."""
    span = ReadableSpan("x", attributes={"a": 1, "b": 2})
    [group] = grouped([span], [{"a": 3}])
    assert [*group.given({"c": (4,)}).rows()] == [{"a": 3, "c": 4}]
    assert [*group.rows()] == [{"a": 3}]
    assert dict(span.attributes or {}) == {"a": 1, "b": 2}
