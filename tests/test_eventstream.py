"""AWS event streams and lines of JSON: whatever the splits, whatever the bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from exchanges import chunk, lines, message
from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.capture.body import MAX_PART, Body
from otel_sessions.capture.eventstream import EventStream

EVENT = message({"a": 1}, event_type="kind", message_type="event")


def parts(data: bytes, *cuts: int) -> list[bytes]:
    """What comes out of ``data``, cut at ``cuts``."""
    found: list[bytes] = []
    body = Body(found.append)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        body.add(data[start:end])
    body.end()
    return found


def test_events_come_under_their_type_and_models_events_as_they_are() -> None:
    """The type is a part of what Converse says; what a model says is whole by itself."""
    assert [json.loads(part) for part in parts(EVENT + chunk({"b": 2}))] == [{"kind": {"a": 1}}, {"b": 2}]


@pytest.mark.parametrize("kind", ["exception_type", "error_code"])
def test_exceptions_come_as_errors(kind: str) -> None:
    """Their payload is not read: it may hold anything."""
    assert [json.loads(part) for part in parts(message(b"gone", **{kind: "slow"}))] == [{"error": {"type": "slow"}}]


@pytest.mark.parametrize("place", [3, 10, 20, -6, -1])
def test_nothing_is_read_after_a_wrong_checksum(place: int) -> None:
    """The events before it are."""
    broken = bytearray(EVENT)
    broken[place] ^= 1
    assert len(parts(EVENT + bytes(broken) + EVENT)) == 1


def test_headers_of_every_type_are_stepped_over() -> None:
    """Only texts are wanted, but the others have lengths of their own."""
    values = {0: b"", 1: b"", 2: b"x", 3: b"xx", 4: b"x" * 4, 5: b"x" * 8, 6: b"\0\3abc", 8: b"x" * 8, 9: b"x" * 16}
    named = b"".join(b"\1h" + bytes([kind]) + value for kind, value in values.items())
    plain = message({"a": 1}, event_type="kind")
    size = int.from_bytes(plain[4:8], "big")
    assert parts(rebuilt(named + plain[12 : 12 + size], plain[12 + size : -4])) == [b'{"kind":{"a": 1}}']


def rebuilt(headers: bytes, payload: bytes) -> bytes:
    """A message with ``headers`` as they are."""
    from zlib import crc32

    prelude = (len(headers) + len(payload) + 16).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    whole = prelude + crc32(prelude).to_bytes(4, "big") + headers + payload
    return whole + crc32(whole).to_bytes(4, "big")


def test_a_message_that_is_too_long_is_passed_by() -> None:
    """Its bytes are not kept, and the next message is read."""
    found: list[bytes] = []
    stream = EventStream(found.append, 200)
    data = EVENT + message({"text": "x" * 1000}, event_type="long") + EVENT
    for start in range(0, len(data), 50):
        stream.add(data[start : start + 50])
        assert len(stream._held) < 250
    assert len(found) == 2


@given(st.lists(st.sampled_from([EVENT, chunk({"b": 2}), message(b"no json", event_type="x")]), max_size=6), st.data())
def test_event_streams_are_the_same_in_any_split(messages: list[bytes], data: st.DataObject) -> None:
    """One byte at a time or all at once."""
    body = b"".join(messages)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert parts(body, *cuts) == parts(body)


@given(
    st.binary(max_size=300),
    st.lists(st.integers(0, 300), max_size=5),
    st.sampled_from([b"", b"\0", EVENT, EVENT[:20], b"{}\n"]),
)
def test_any_bytes_are_the_same_in_any_split_and_never_raise(data: bytes, cuts: list[int], start: bytes) -> None:
    """Responses come from anyone."""
    body = start + data
    assert parts(body, *(min(cut, len(body)) for cut in cuts)) == parts(body)


def test_lines_are_told_from_a_document_by_the_first() -> None:
    """A line end inside a document, or after it, does not make lines of it."""
    assert parts(lines({"a": 1}, {"b": 2})) == [b'{"a": 1}', b'{"b": 2}']
    assert parts(b'{"a": 1}\n\n') == [b'{"a": 1}']
    pretty = json.dumps({"a": {"b": 1}, "c": 2}, indent=1).encode()
    assert parts(pretty) == [pretty]


def test_a_last_line_without_an_end_counts() -> None:
    """Servers forget it, and connections break."""
    assert parts(b'{"a": 1}\r\n{"b": 2}') == [b'{"a": 1}\r', b'{"b": 2}']


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=9)), min_size=1, max_size=6),
    st.data(),
)
def test_lines_are_the_same_in_any_split(documents: list[dict[str, Any]], data: st.DataObject) -> None:
    """And each is a part."""
    body = lines(*documents)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert [json.loads(part) for part in parts(body, *cuts)] == documents


def test_a_long_line_costs_bounded_memory() -> None:
    """Of a line beyond the limit its ends are looked at, as of a document."""
    long = {"text": "x" * (MAX_PART + 10), "eval_count": 7}
    found = parts(lines({"a": 1}, long, {"b": 2}))
    assert [json.loads(part) for part in found] == [{"a": 1}, {"eval_count": 7}, {"b": 2}]
