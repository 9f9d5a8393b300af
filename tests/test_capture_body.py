"""From bytes to parts, wherever the chunks are cut."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.capture.body import END, MAX_PART, Body


def parts(*chunks: bytes) -> list[bytes]:
    found: list[bytes] = []
    body = Body(found.append)
    for chunk in chunks:
        body.add(chunk)
    body.end()
    return found


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    positions = sorted({min(cut, len(data)) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *positions], [*positions, len(data)], strict=True)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b" \n", []),
        (b'{"a":1}', [b'{"a":1}']),
        (b'\xef\xbb\xbf {"a":1}', [b'{"a":1}']),
        (b'[{"a":1},\n{"b":2}]', [b'{"a":1}', b'{"b":2}']),
        (b'[{"a":1},\n{"b":2},\n{"c"', [b'{"a":1}', b'{"b":2}']),
        (b'data: {"a":1}\n\ndata: [DONE]\n\n', [b'{"a":1}']),
        (b'event: x\r\ndata:{"a":1}\r\n\r\n', [b'{"a":1}']),
        (b'event: x\rdata: {"a":1}\r\r', [b'{"a":1}']),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n 1}']),
        (b': ping\n\nid: 1\ndata: {"a":1}', [b'{"a":1}']),
        (b"<html>no</html>", []),
    ],
)
def test_bodies_are_told_apart_by_what_they_are(body: bytes, expected: list[bytes]) -> None:
    """A document, an array whole or cut off, events with every kind of line end, and what is none of these."""
    assert parts(body) == expected


EVENT = st.sampled_from(
    [b'data: {"a":1}\n\n', b"data: [DONE]\r\n\r\n", b": ping\n", b"\r", b"\n", b'{"b":2}\n', b"data: {\r", b"[", b" "]
)


@given(st.lists(st.one_of(EVENT, st.binary(max_size=8))), st.lists(st.integers(0, 200), max_size=20))
def test_the_cuts_do_not_matter(events: list[bytes], cuts: list[int]) -> None:
    """The same bytes give the same parts in any chunks, and no bytes raise."""
    data = b"".join(events)
    assert parts(*pieces(data, cuts)) == parts(data)


TOLD = st.sampled_from(
    [b'data: {"a":1}\n\n', b'event: b\ndata: {"b":"x"}\n\n', b'data: {"tell":1}\n\n', b'data: {"a":1,\ndata: "tell":2}\n\n',
     b'{"tell":3}\n\n', b": ping\n\n", b"data: [DONE]\n\n", b'data: {"a":"[DONE]"}\r\n\r\n', b"\n"]
)  # fmt: skip


@given(st.lists(TOLD), st.lists(st.integers(0, 300), max_size=10), st.integers(0, 3))
def test_events_that_say_nothing_may_be_left_out(events: list[bytes], cuts: list[int], need: int) -> None:
    """Once the reader has what it needs, every telling event still arrives, in order, and so does the end."""
    every: list[bytes] = []
    some: list[bytes] = []

    def read(part: bytes) -> bool:
        some.append(part)
        return len(some) > need

    whole, selective = Body(every.append), Body(read, re.compile(b'"tell"'))
    for chunk in pieces(b"".join([b"data: {}\n\n", *events]), cuts):
        whole.add(chunk)
        selective.add(chunk)
    whole.end()
    selective.end()
    assert some[: need + 1] == every[: need + 1]
    assert [part for part in some if b"tell" in part] == [part for part in every if b"tell" in part]
    assert selective.said_done == whole.said_done


@pytest.mark.parametrize("cut", [1, 1000, 65_536])
@pytest.mark.parametrize("event", [False, True])
def test_of_what_is_too_long_the_wanted_fields_are_found(cut: int, *, event: bool) -> None:
    """Beyond the limit the ends are kept: id and model from the head, the usage from the tail."""
    document = json.dumps(
        {"id": "r1", "model": "m", "data": [{"id": "other", "usage": 1}, "x" * MAX_PART], "usage": {"n": 7}}
    ).encode()
    data = b"data: " + document + b"\n\n" if event else document
    chunks = [data] if cut == 1 else [data[start : start + cut] for start in range(0, len(data), cut)]
    (part,) = parts(*chunks)
    assert len(part) < END
    assert json.loads(part) == {"id": "r1", "model": "m", "usage": {"n": 7}}


def test_usage_may_come_first() -> None:
    """As in Jina's embeddings, of which a batch has more than is kept."""
    document = {"model": "m", "usage": {"n": 7}, "data": ["x" * MAX_PART]}
    (part,) = parts(json.dumps(document).encode())
    assert json.loads(part) == {"model": "m", "usage": {"n": 7}}


def test_an_endless_event_of_many_lines_is_bounded() -> None:
    """Data lines without a blank line between them are not collected for ever."""
    line = b"data: " + b"x" * 1_000_000 + b"\n"
    assert parts(*[line] * 8, b'\ndata: {"a":1}\n\n') == [b'{"a":1}']
