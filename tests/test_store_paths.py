"""Paths and ids of sessions: SQL normalises as Python does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_store import memory_store
from recorded_spans import span

from otel_sessions.base.paths import lineage, normalize_id, normalize_path
from otel_sessions.store import Store

# Without surrogates, which have no UTF-8 and are replaced before ClickHouse sees them.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SEGMENT = st.one_of(TEXT, st.sampled_from(["%2F", "%2f", "a%2fb", "", " ", "é" * 130, "x" * 200, "\n", "a\\'b"]))
PATH = st.one_of(TEXT, st.lists(SEGMENT, max_size=40).map("/".join), st.just("/" * 50), st.just("é/" * 900))
ID = st.one_of(
    TEXT, st.sampled_from(["\u3000x\x85", "\x1c\x1f id \t\r\n", "\xa0", "y" * 300, "é" * 300, "\u200bz", "\x00"])
)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as opened:
        yield opened


def normalised(store: Store, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What the engine makes of (id, path) pairs."""
    batch = uuid.uuid4().hex
    spans = [
        span(number, {"session.id": session, "session.path": path}, name=batch)
        for number, (session, path) in enumerate(pairs, 1)
    ]
    store.insert(spans, batch)
    table = store.reader().query(
        f"SELECT toJSONString((SessionId, SessionPath)) FROM otel_traces WHERE SpanName = '{batch}' ORDER BY SpanId"
    )
    return [tuple(json.loads(row[0])) for row in table.rows]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ID, PATH), min_size=20, max_size=60))
def test_sql_normalises_ids_and_paths_as_python_does(store: Store, pairs: list[tuple[str, str]]) -> None:
    """Any text: the same id, and where it is not empty the same path."""
    expected = [
        (normalize_id(session), normalize_path(path) if normalize_id(session) else "") for session, path in pairs
    ]
    assert normalised(store, pairs) == expected


def test_the_limits_of_a_path_hold_in_sql(store: Store) -> None:
    """Segment 128, depth 32, path 1,024 characters: each cut as Python cuts it."""
    paths = ["a" * 129, "/".join("abc" * 14), "/".join(["é" * 128] * 9), "/".join(["b" * 127] * 8) + "/", "a/" * 40]
    got = [path for _, path in normalised(store, [("s", path) for path in paths])]
    assert got == [normalize_path(path) for path in paths]
    assert max(map(len, got)) == 1024


@pytest.mark.parametrize("path", ["/", "/a", "/a/b/c", "/é/%2F/ x"])
def test_a_call_has_a_step_for_each_path_above_it(store: Store, path: str) -> None:
    """The rows of session_steps are the lineage of the paths in the session, root first."""
    session = uuid.uuid4().hex
    store.insert([span(1, {"session.id": session, "session.path": path})], session)
    steps = store.reader().steps(session)
    assert tuple(step.path for step in steps) == lineage(path)
    assert [step.depth for step in steps] == list(range(len(steps)))
    assert [step.parent_path for step in steps] == ["", *lineage(path)[:-1]]
