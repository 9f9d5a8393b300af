"""The session in the context: what is active, what travels as baggage, what comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from otel_sessions.base import context as base_context
from otel_sessions.base.context import (
    StepAnchor,
    active_session,
    add_listener,
    anchored,
    detach,
    enter,
    follow_sampler,
    notify,
    placed,
    remove_listener,
    sample_with,
    step_context,
)
from otel_sessions.base.guard import counters
from otel_sessions.base.paths import normalize_id, normalize_path, session_trace_id, step_span_id
from otel_sessions.base.values import Session

EMPTY = Context()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SESSIONS = st.builds(
    Session,
    id=TEXT.map(lambda text: normalize_id(text) or "x"),
    name=st.none() | TEXT.map(lambda text: text.strip() or "n"),
    path=TEXT.map(normalize_path).map(lambda path: path.strip() or "/"),
    user_id=st.none() | TEXT.map(lambda text: text.strip() or "u"),
    properties=st.dictionaries(st.sampled_from(["plan", "a b", "ü", "x=y;z"]), TEXT.map(str.strip), max_size=3),
)


@pytest.fixture(autouse=True)
def _own_sampling() -> Iterator[None]:
    before = sample_with(base_context._always)
    yield
    sample_with(before)


def test_no_session_is_none() -> None:
    """Neither an empty context nor foreign baggage is a session."""
    assert active_session(EMPTY) is None
    assert active_session(baggage.set_baggage("user.id", "ann", EMPTY)) is None
    assert active_session(baggage.set_baggage("session.id", "  ", EMPTY)) is None


def test_entering_makes_a_session_active_and_anchors_its_step() -> None:
    """Whatever span starts next is a child of the path's step span, in the session trace."""
    session = Session("run", path="/a")
    ctx = enter(session, EMPTY)
    assert active_session(ctx) is session
    span = trace.get_current_span(ctx)
    assert isinstance(span, StepAnchor)
    assert span.get_span_context() == step_context("run", "/a")
    assert (step_context("run", "/a").trace_id, step_context("run", "/a").span_id) == (
        session_trace_id("run"),
        step_span_id("run", "/a"),
    )
    deeper = enter(session.at("b"), ctx)
    assert trace.get_current_span(deeper).get_span_context().span_id == step_span_id("run", "/a/b")


def test_placing_a_session_says_nothing_in_baggage() -> None:
    """For a single span: session and anchor, but nothing that would be propagated."""
    ctx = placed(Session("run", path="/a"), enter(Session("outer"), EMPTY))
    active = active_session(ctx)
    assert active is not None
    assert active.id == "run"
    assert trace.get_current_span(ctx).get_span_context() == step_context("run", "/a")
    assert baggage.get_baggage("session.id", ctx) == "outer"


def test_a_real_span_stays_active() -> None:
    """A span of the host's is not replaced by an anchor."""
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True))
    ctx = enter(Session("run"), trace.set_span_in_context(span, EMPTY))
    assert trace.get_current_span(ctx) is span
    assert anchored(Session("run"), ctx) is ctx


def test_the_hosts_own_baggage_stays() -> None:
    """Entering replaces session baggage only, also that of an outer session."""
    ctx = baggage.set_baggage("tenant", "t1", EMPTY)
    ctx = enter(Session("one", name="n", properties={"plan": "pro"}, user_id="ann"), ctx)
    ctx = enter(Session("two", path="/a"), ctx)
    assert dict(baggage.get_all(ctx)) == {"tenant": "t1", "session.id": "two", "session.path": "/a"}


@given(SESSIONS)
def test_a_session_survives_the_way_to_another_service(session: Session) -> None:
    """Through W3C headers and back: every field, whatever characters it has; the step kind is not sent."""
    headers: dict[str, str] = {}
    inject(headers, context=enter(session, EMPTY))
    assert headers["baggage"].isascii()
    received = active_session(extract(headers, context=EMPTY))
    assert received == Session(
        session.id, session.name, session.path, session.user_id, session.properties, received_path=session.path
    )


@pytest.mark.parametrize(
    "header",
    ["session.id=%00%ff", "session.id=" + "x" * 5000, "session.id", "=;,", "session.id=a,session.path=" + "%2F" * 900],
)
def test_hostile_baggage_is_read_without_an_error(header: str) -> None:
    """What another service sends is normalised or ignored."""
    session = active_session(extract({"baggage": header}, context=EMPTY))
    assert session is None or (session.id == normalize_id(session.id) and session.path == normalize_path(session.path))


def test_the_ambient_session_wins_over_baggage() -> None:
    """Baggage is read only where no session was entered."""
    ctx = enter(Session("ours"), extract({"baggage": "session.id=theirs"}, context=EMPTY))
    active = active_session(ctx)
    assert active is not None
    assert active.id == "ours"


def test_what_a_span_says_of_a_session() -> None:
    """Only what is set becomes an attribute."""
    assert Session("run").attributes == {"session.id": "run", "session.path": "/"}
    full = Session("run", "n", "/a", "ann", {"plan": "pro"}, "tool")
    assert full.attributes == {
        "session.id": "run",
        "session.path": "/a",
        "session.name": "n",
        "user.id": "ann",
        "otel_sessions.step.kind": "tool",
        "session.property.plan": "pro",
    }


def test_a_sampler_decides_once_per_session_and_only_if_nobody_else_does() -> None:
    """The first decision stands until it is replaced explicitly."""
    follow_sampler(ALWAYS_OFF)
    follow_sampler(ALWAYS_ON)
    assert not step_context("run", "/").trace_flags.sampled
    sample_with(lambda _: True)
    assert step_context("run", "/").trace_flags.sampled


def test_a_listener_that_fails_does_not_keep_the_others_from_hearing() -> None:
    """Listeners are guarded one by one; removing one that is unknown is no error."""
    heard: list[bool] = []

    def failing(session: Session, opened: bool) -> None:  # noqa: FBT001 - a listener's signature
        raise RuntimeError("mine")

    def hearing(session: Session, opened: bool) -> None:  # noqa: FBT001 - a listener's signature
        heard.append(opened)

    before = counters().get("error.step", 0)
    add_listener(failing)
    add_listener(hearing)
    notify(Session("run"), opened=True)
    remove_listener(failing)
    remove_listener(hearing)
    remove_listener(hearing)
    notify(Session("run"), opened=False)
    assert (heard, counters()["error.step"]) == ([True], before + 1)


def test_detaching_twice_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A token that cannot be used says so by its result, not in the log."""
    token = context.attach(EMPTY)
    assert detach(token)
    assert not detach(token)
    assert caplog.messages == []
