"""Writing attributes in one step leaves the span that ``set_attributes`` leaves, or is not done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, Span

from otel_sessions.base import attributes
from otel_sessions.base.attributes import Plain, set_plain

KEYS = st.text("abc", min_size=1, max_size=2)
VALUES: st.SearchStrategy[Plain] = st.one_of(
    st.text(max_size=6), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False),
    st.lists(st.text(max_size=3), max_size=3).map(tuple),
)  # fmt: skip
PLAIN = st.dictionaries(KEYS, VALUES, max_size=6)
LIMITS = st.builds(
    SpanLimits,
    max_span_attributes=st.sampled_from([0, 1, 4, 128, SpanLimits.UNSET]),
    max_span_attribute_length=st.sampled_from([0, 3, SpanLimits.UNSET]),
)


def started(limits: SpanLimits | None = None, at_start: Mapping[str, Plain] | None = None) -> Any:
    provider = TracerProvider(span_limits=limits, resource=Resource.get_empty(), shutdown_on_exit=False)
    return provider.get_tracer("test").start_span("call", attributes=at_start)


def left(span: Any) -> tuple[dict[str, Any], dict[str, str], int]:
    """What a reader of the ended ``span`` sees: values, their types, and how many were dropped."""
    found = dict(span.attributes)
    return found, {key: type(value).__name__ for key, value in found.items()}, span.dropped_attributes


@given(LIMITS, PLAIN, PLAIN, PLAIN)
def test_both_ways_leave_the_same_span(
    limits: SpanLimits, at_start: dict[str, Plain], given_: dict[str, Plain], later: dict[str, Plain]
) -> None:
    """Whatever the limits, what the span had, and what it is given afterwards."""
    written, set_ = started(limits, at_start), started(limits, at_start)
    set_plain(written, given_)
    set_.set_attributes(given_)
    if len({*at_start, *given_, *later}) <= (limits.max_span_attributes or 128):  # else the order says what is dropped
        for span in (written, set_):
            span.set_attributes(later)
    for span in (written, set_):
        span.end()
    assert left(written) == left(set_)


def test_this_sdk_is_written_to() -> None:
    """An SDK that keeps attributes in another way is noticed here, and not by calls that cost more."""
    assert attributes._writable is type(started())


def test_an_ended_span_keeps_what_it_had(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK refuses it, and says so."""
    span = started(None, {"a": 1})
    span.end()
    set_plain(span, {"b": 2})
    assert dict(span.attributes) == {"a": 1}
    assert "Setting attribute on ended span." in caplog.text


class Foreign(NonRecordingSpan):
    """A span of another implementation."""

    def __init__(self) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)
        self.given: dict[str, Any] = {}

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.given |= attributes


def test_any_other_span_is_told_in_the_public_way() -> None:
    """Also one whose class derives from the SDK's, and may look at what it is given."""
    foreign = Foreign()
    set_plain(foreign, {"a": 1})
    assert foreign.given == {"a": 1}

    class Watched(sdk._Span):
        def set_attributes(self, attributes: Mapping[str, Any]) -> None:
            super().set_attributes({key.upper(): value for key, value in attributes.items()})

    watched = Watched("call", INVALID_SPAN_CONTEXT, resource=Resource.get_empty())
    set_plain(watched, {"a": 1})
    assert watched.attributes == {"A": 1}


class _Renamed(dict[str, Any]):
    """A container without any of the names that are written to."""


def _keeps_elsewhere(span: Any) -> None:
    span._attributes = _Renamed()


def _counts(span: Any) -> None:
    """As a container would that keeps something beside the values."""
    store, plain = span._attributes, span._attributes._set_items

    def set_items(given_: Mapping[str, Any]) -> None:
        plain(given_)
        store.sets = len(given_)

    store._set_items = set_items


def _stays_open(span: Any) -> None:
    span.end = lambda: None


@pytest.mark.parametrize("change", [_keeps_elsewhere, _counts, _stays_open])
def test_an_sdk_that_has_changed_is_told_in_the_public_way(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Other names, more fields, or no sign that a span has ended: the check at import says no, nothing raises."""

    class Changed(sdk._Span):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            change(self)

        def set_attributes(self, attributes: Mapping[str, Any]) -> None:
            if isinstance(self._attributes, _Renamed):
                self._attributes.update(attributes)
            else:
                super().set_attributes(attributes)

    monkeypatch.setattr(attributes, "_writable", Changed)
    assert not attributes._as_known(Changed)
    monkeypatch.setattr(attributes, "_writable", None)
    span: Span = Changed("call", INVALID_SPAN_CONTEXT, resource=Resource.get_empty())
    set_plain(span, {"a": 1})
    assert getattr(span, "attributes") == {"a": 1}  # noqa: B009 - the API's span has none
