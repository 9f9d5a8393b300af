"""Path grammar and derived ids, the ids computed a second time from the formula in the contract."""

from __future__ import annotations

import hashlib
import itertools
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.base.guard import counters
from otel_sessions.base.paths import (
    MAX_DEPTH,
    MAX_PATH,
    MAX_SEGMENT,
    join_path,
    lineage,
    new_session_id,
    normalize_id,
    normalize_path,
    segment_name,
    session_trace_id,
    step_span_id,
)

ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
PATHS = st.one_of(
    ANY_TEXT,
    st.lists(st.sampled_from(["", "a", "b c", "%2F", "%2f", "é", "x" * 200, ".", ".."]), max_size=50).map("/".join),
)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("", "/"),
        ("/", "/"),
        ("///", "/"),
        ("a", "/a"),
        ("/a/", "/a"),
        ("a//b/", "/a/b"),
        ("a%2Fb/c%2fd", "/a%2Fb/c%2Fd"),
        ("/A b/ü", "/A b/ü"),
        ("/./../a", "/./../a"),
        ("a\nb\x00", "/a\nb\x00"),
        ("a\ud800", "/a?"),
    ],
)
def test_the_grammar(raw: str, path: str) -> None:
    """A leading slash is added, empty segments go, %2F stays inside its segment, nothing else has a meaning."""
    assert normalize_path(raw) == path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("x" * 129, "/" + "x" * 128),
        ("a/" * 33, "/a" * 32),
        ("/".join("y" * 128 for _ in range(9)), ("/" + "y" * 128) * 7 + "/" + "y" * 120),
        ("z" * 1_000_000, "/" + "z" * 128),
    ],
    ids=["segment", "depth", "length", "megabyte"],
)
def test_what_exceeds_a_limit_is_cut_and_counted(raw: str, path: str) -> None:
    """Segment 128, depth 32, path 1,024 characters; a counter says that something was cut."""
    before = counters().get("path.truncated", 0)
    assert normalize_path(raw) == path
    assert counters().get("path.truncated", 0) in {before, before + 1}  # a repeated path is not cut again
    assert counters()["path.truncated"] >= 1


@given(PATHS)
def test_a_normalised_path_is_canonical(raw: str) -> None:
    """Normalising twice changes nothing; limits hold; the result can be encoded."""
    path = normalize_path(raw)
    assert normalize_path(path) == path
    assert path.startswith("/")
    assert path == "/" or not path.endswith("/")
    assert "//" not in path
    assert len(path) <= MAX_PATH
    segments = path[1:].split("/")
    assert len(segments) <= MAX_DEPTH
    assert all(len(segment) <= MAX_SEGMENT for segment in segments)
    assert path.encode().decode() == path


@given(PATHS)
def test_the_lineage_leads_from_the_root_to_the_path(raw: str) -> None:
    """Each path in a lineage is its child's parent, and is normalised itself."""
    path = normalize_path(raw)
    line = lineage(path)
    assert (line[0], line[-1]) == ("/", path)
    for parent, child in itertools.pairwise(line):
        assert child.rpartition("/")[0] == ("" if parent == "/" else parent)
        assert normalize_path(child) == child


@given(PATHS, PATHS)
def test_joining_appends_or_replaces(base: str, name: str) -> None:
    """A relative name stays below its base, an absolute one ignores it; both are normalised."""
    joined = join_path(normalize_path(base), name)
    assert joined == normalize_path(joined)
    if name.startswith("/"):
        assert joined == normalize_path(name)
    elif len(joined) < MAX_PATH and len(lineage(joined)) <= MAX_DEPTH:
        assert normalize_path(base) in lineage(joined)


@pytest.mark.parametrize(("path", "name"), [("/", "/"), ("/a", "a"), ("/a/b%2Fc", "b/c")])
def test_the_name_of_a_step(path: str, name: str) -> None:
    """People read the last segment, with its slashes."""
    assert segment_name(path) == name


@given(ANY_TEXT, PATHS)
def test_ids_follow_the_formula(session_id: str, raw: str) -> None:
    """First 16 bytes of SHA-256(id), first 8 of SHA-256(id, line feed, path)."""
    path = normalize_path(raw)
    encoded = session_id.encode("utf-8", "replace")
    assert session_trace_id(session_id) == int(hashlib.sha256(encoded).hexdigest()[:32], 16)
    assert step_span_id(session_id, path) == int(hashlib.sha256(encoded + b"\n" + path.encode()).hexdigest()[:16], 16)


def test_ids_are_what_other_processes_compute() -> None:
    """Fixed values: changing them would tear running sessions apart."""
    assert f"{session_trace_id('run-1'):032x}" == "4e65d3fbe8ad6535681b021b30785b12"
    assert f"{step_span_id('run-1', '/triage'):016x}" == "d0cb6dd11ac45fe5"
    assert f"{step_span_id('Zürich ✓', '/'):016x}" == hashlib.sha256("Zürich ✓\n/".encode()).hexdigest()[:16]


@given(ANY_TEXT)
def test_ids_are_normalised(raw: str) -> None:
    """An id is stripped, at most 256 characters, can be encoded, and normalising it again changes nothing."""
    value = normalize_id(raw)
    assert normalize_id(value) == value == value.strip()
    assert len(value) <= 256
    assert value.encode().decode() == value


def test_new_session_ids_sort_by_time() -> None:
    """UUIDv7: the first 48 bits are Unix milliseconds, version 7, variant RFC 9562."""
    before = time.time_ns() // 1_000_000
    ids = [uuid.UUID(new_session_id()) for _ in range(100)]
    after = time.time_ns() // 1_000_000
    assert all(before <= value.int >> 80 <= after for value in ids)
    assert {(value.version, value.variant) for value in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 100
