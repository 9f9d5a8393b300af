"""``explain``: which attribute fed which column, and what became of the span."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from recorded_spans import call

from otel_sessions.cli.app import program
from otel_sessions.store import open_store

Runner = Callable[..., Result]


@pytest.fixture
def run() -> Iterator[Runner]:
    dsn = f"chdb://memory?database=t{uuid.uuid4().hex}"
    attributes = {
        "gen_ai.usage.prompt_tokens": 7,
        "gen_ai.conversation.id": "thread",
        "gen_ai.response.id": "r1",
        "my.own": "note",
    }
    with open_store(dsn) as store:
        store.migrate()
        outer = call(1, more=attributes, scope=InstrumentationScope("traceloop"))
        store.insert([outer, call(2, more={"gen_ai.response.id": "r1"})], "batch-1")
        # The engine lasts while a store is open.
        yield lambda *arguments: CliRunner().invoke(program, ["explain", *arguments, "--store", dsn])


def test_explain_names_what_was_used_passed_over_and_not_read(run: Runner) -> None:
    """Of two names for the input the first is used; the conversation gives way to the session."""
    result = run("0000000000000001", "--json")
    assert result.exit_code == 0, result.output
    found = {row["attribute"]: (row["column"], row["value"], row["outcome"]) for row in json.loads(result.stdout)}
    assert found["gen_ai.usage.input_tokens"] == ("input_tokens", "100", "used")
    assert found["gen_ai.usage.prompt_tokens"] == ("input_tokens", "7", "passed over")
    assert found["gen_ai.conversation.id"] == ("session_id", "thread", "passed over")
    assert found["session.id"] == ("session_id", "s1", "used")
    assert found["my.own"] == ("", "note", "not read")


def test_explain_says_what_became_of_the_span(run: Runner) -> None:
    """Counted in which session, or not counted and what counts instead."""
    assert "counted in session s1 (from: own)" in run("0000000000000002").output
    assert "not counted: same response id; 0000000000000002 counts instead" in run("0000000000000001").output


def test_an_unknown_span_is_an_error(run: Runner) -> None:
    """Exit code 1, and where span ids are to be found."""
    result = run("00000000000000ff")
    assert result.exit_code == 1
    assert "session_calls" in result.output
