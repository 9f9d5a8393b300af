"""The ledger of steps by itself: what becomes ready when, and that nothing grows without bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor

from otel_sessions.base.values import Session
from otel_sessions.processor import steps
from otel_sessions.processor.steps import Origin, SpanStart, StepLedger

ORIGIN = Origin(SpanProcessor(), Resource.get_empty())


def start(ledger: StepLedger, path: str, key: int, time: int = 0, *, session_id: str = "run", now: float = 0.0) -> None:
    ledger.span_started(SpanStart(Session(session_id, path=path), (0, key), time, ORIGIN, None), now)


def ready(ledger: StepLedger) -> list[tuple[str, int, int]]:
    return [(step.path, step.start, step.end) for step in ledger.take_ready()]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> StepLedger:
    """A ledger that remembers three steps, three exported ones and three spans."""
    monkeypatch.setattr(steps, "MAX_STEPS", 3)
    return StepLedger(100)


def test_idle_steps_are_found_in_order_and_children_keep_their_parents_in_use() -> None:
    """Only what was not used since the given moment is ready; a step with an open span below it is not."""
    ledger = StepLedger(10)
    start(ledger, "/a", 1, 10, now=1.0)
    ledger.span_ended((0, 1), 20, 2.0)
    start(ledger, "/b", 2, 15, now=3.0)
    ledger.retire_idle(before=1.5, now=10.0)
    assert ready(ledger) == []
    ledger.retire_idle(before=5.0, now=10.0)
    assert ready(ledger) == [("/a", 10, 20)]
    ledger.span_ended((0, 2), 30, 11.0)
    ledger.retire_idle(before=11.0, now=12.0)
    assert ready(ledger) == [("/", 10, 30), ("/b", 15, 30)]


def test_many_steps_make_room_for_new_ones(small: StepLedger) -> None:
    """Beyond the limit the longest unused step is exported, whoever's it is, one at a time."""
    start(small, "/a", 1, 1)
    start(small, "/b", 2, 2)
    assert ready(small) == []
    start(small, "/c", 3, 3)
    assert ready(small) == [("/a", 1, 1)]
    small.retire_all()
    assert ready(small) == [("/", 1, 3), ("/b", 2, 2), ("/c", 3, 3)]


def test_spans_that_never_end_are_forgotten(small: StepLedger) -> None:
    """Of too many open spans the oldest counts as gone, so its step is not in use for ever."""
    for key in range(4):
        start(small, "/a" if key == 0 else "/", key, key)
    assert not small.knows((0, 0))
    small.retire_unused()
    assert ready(small) == [("/a", 0, 0)]
    small.span_ended((0, 0), 99, 1.0)
    small.retire_all()
    assert ready(small) == [("/", 0, 3)]


def test_what_was_exported_is_remembered_within_bounds(small: StepLedger) -> None:
    """A step is not exported twice, until more than the limit were exported after it."""
    for n in range(4):
        start(small, "/", n, n, session_id=f"run-{n}")
        small.span_ended((0, n), n, 0.0)
        small.retire_all()
        assert len(ready(small)) == 1
    for n, exported in ((3, 0), (0, 1)):
        start(small, "/", 10 + n, 5, session_id=f"run-{n}")
        small.retire_all()
        assert len(ready(small)) == exported


def test_a_block_that_closes_twice_or_was_never_opened_is_no_error() -> None:
    """The host's mistakes, and blocks that were open before the processor was there, are ignored."""
    ledger, session = StepLedger(10, ORIGIN), Session("run", path="/a")
    ledger.block_closed(session, 1, 1.0)
    ledger.block_opened(session, 2, 2.0)
    ledger.block_closed(session, 3, 3.0)
    ledger.block_closed(session, 4, 4.0)
    assert ready(ledger) == [("/", 2, 3), ("/a", 2, 3)]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["start", "end", "open", "close", "idle", "flush"]),
        st.sampled_from(["run-1", "run-2", "run-3"]),
        st.sampled_from(["/", "/a", "/a/b", "/c"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_whatever_happens_each_step_is_exported_once_and_covers_what_it_saw(
    actions: list[tuple[str, str, str, int]],
) -> None:
    """Any sequence of events: no error, no step twice, no path missing, times ordered, nothing left at the end."""
    ledger, seen, exported = StepLedger(2, ORIGIN), set(), []
    for time, (action, session_id, path, key) in enumerate(actions):
        session = Session(session_id, path=path)
        if action == "start" and not ledger.knows((0, key)):
            seen.add((session_id, path))
            start(ledger, path, key, time, session_id=session_id, now=float(time))
        elif action == "end":
            ledger.span_ended((0, key), time, float(time))
        elif action == "open":
            seen.add((session_id, path))
            ledger.block_opened(session, time, float(time))
        elif action == "close":
            ledger.block_closed(session, time, float(time))
        elif action == "idle":
            ledger.retire_idle(time - 3.0, float(time))
        elif action == "flush":
            ledger.retire_unused()
        exported += ledger.take_ready()
    ledger.retire_all()
    exported += ledger.take_ready()
    keys = [(step.session.id, step.path) for step in exported]
    assert len(keys) == len(set(keys))
    assert seen <= set(keys)
    assert all(step.start <= step.end for step in exported)
    assert not ledger._sessions or all(not state.steps for state in ledger._sessions.values())
