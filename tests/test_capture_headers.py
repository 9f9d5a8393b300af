"""What session headers say, and that anything may stand in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.base.values import Session
from otel_sessions.capture.headers import MAX_PASSED, MAX_PROPERTIES, MAX_VALUE, _passed, split

Raw = list[tuple[bytes, bytes]]


def session_of(raw: Raw, ambient: Session | None = None) -> Session | None:
    _, given_ = split(raw)
    return ambient if given_ is None else given_.over(ambient)


def test_own_and_helicone_headers_mean_the_same() -> None:
    """Every field under both names, in any case, normalised."""
    own = session_of(
        [
            (b"OTel-Session-Id", b" run-1 "),
            (b"otel-session-name", b"triage"),
            (b"OTEL-SESSION-PATH", b"a//b/"),
            (b"OTel-Session-User", b"u1"),
            (b"OTel-Session-Property-Tenant", b"acme"),
        ]
    )
    helicone = session_of(
        [
            (b"Helicone-Session-Id", b"run-1"),
            (b"Helicone-Session-Name", b"triage"),
            (b"Helicone-Session-Path", b"/a/b"),
            (b"Helicone-User-Id", b"u1"),
            (b"helicone-property-tenant", b"acme"),
        ]
    )
    assert own == helicone == Session("run-1", "triage", "/a/b", "u1", {"tenant": "acme"})


def test_our_own_headers_win_over_helicones() -> None:
    """Whoever moves from one to the other may send both for a while."""
    raw = [(b"OTel-Session-Id", b"ours"), (b"Helicone-Session-Id", b"theirs")]
    assert session_of(raw) == session_of(raw[::-1]) == Session("ours")


AMBIENT = Session("run-1", "triage", "/a", "u1", {"k": "v"}, step_kind="tool", received_path="/a")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([], AMBIENT),
        ([(b"traceparent", b"x")], AMBIENT),
        ([(b"OTel-Session-Id", b"run-2")], Session("run-2")),
        ([(b"OTel-Session-Id", b"  ")], AMBIENT),
        ([(b"OTel-Session-Path", b"/b")], Session("run-1", "triage", "/b", "u1", {"k": "v"}, received_path="/a")),
        ([(b"OTel-Session-Id", b"run-1"), (b"OTel-Session-Name", b"n")],
         Session("run-1", "n", "/a", "u1", {"k": "v"}, step_kind="tool", received_path="/a")),
        ([(b"OTel-Session-Property-X", b"y")],
         Session("run-1", "triage", "/a", "u1", {"k": "v", "x": "y"}, step_kind="tool", received_path="/a")),
    ],
)  # fmt: skip
def test_headers_win_over_the_ambient_session(raw: Raw, expected: Session) -> None:
    """Another id starts afresh; otherwise what is said is put on top of what is there."""
    assert session_of(raw, AMBIENT) == expected


def test_headers_without_an_id_are_no_session_of_their_own() -> None:
    """They are taken off all the same."""
    raw = [(b"OTel-Session-Path", b"/a"), (b"x", b"1")]
    assert session_of(raw) is None
    assert split(raw)[0] == [(b"x", b"1")]


def test_what_is_taken_off_and_what_stays() -> None:
    """Session headers and trace context are taken off; the rest stays, the very same list if there are none."""
    kept = [
        (b"Helicone-Auth", b"k"),
        (b"Host", b"h"),
        (b"Authorization", b"k"),
        (b"openai-organization", b"o"),
        (b"Baggage-Claim", b"1"),
        (b"", b""),
    ]
    taken = [(b"Helicone-User-Id", b"u"), (b"TraceParent", b"t"), (b"tracestate", b"s"), (b"baggage", b"b")]
    assert split([*taken, *kept])[0] == kept
    assert split(kept)[0] is kept


def test_what_is_remembered_of_names_changes_nothing() -> None:
    """Names that were seen, in whatever number and company, neither hide session headers nor become any."""
    for number in range(3000):
        assert split([(b"x-%d" % number, b"v"), (b"oTel-session-ID", b"r")])[0] == [(b"x-%d" % number, b"v")]
    for number in (0, 1500, 2999):
        raw = [(b"x-%d" % number, b"v"), (b"otel-session-%d" % number, b"v"), (b"OTel-Session-Id", b"r")]
        assert split(raw)[0] == raw[:1]
        assert session_of(raw) == Session("r")
    assert len(_passed) < MAX_PASSED + 100


def test_values_that_are_no_utf8_are_read_as_latin1() -> None:
    """Header values are bytes; nothing is lost and nothing raises."""
    session = session_of([(b"OTel-Session-Id", b"r\xe9"), (b"OTel-Session-Path", "ü/☃".encode())])
    assert session == Session("ré", path="/ü/☃")


def test_properties_are_bounded() -> None:
    """Number and length; the first ones in the order of their names are kept."""
    raw = [(b"OTel-Session-Property-%03d" % number, b"x" * 5000) for number in range(80)]
    session = session_of([(b"OTel-Session-Id", b"r"), *raw])
    assert session is not None
    assert len(session.properties) == MAX_PROPERTIES
    assert {len(value) for value in session.properties.values()} == {MAX_VALUE}


NAMES = st.sampled_from(
    [b"OTel-Session-Id", b"OTel-Session-Path", b"Helicone-Session-Name", b"OTel-Session-Property-", b"helicone-user-id",
     b"OTel-Session-Property-\xff", b"otel-session-", b"baggage"]
)  # fmt: skip


@given(st.lists(st.tuples(NAMES | st.binary(max_size=20), st.binary(max_size=50))))
def test_nothing_in_a_header_raises(raw: Raw) -> None:
    """Whatever stands in them, and a session that comes of it has an id and a path in canonical form."""
    session = session_of(raw)
    assert session is None or (session.id and session.path.startswith("/"))
