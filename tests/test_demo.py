"""The demo: an agent on real SDKs against the loopback provider, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_sessions.demo import Provider, clients_for, wire
from otel_sessions.store import CallRow, SessionRow, StepRow, open_store

PROGRAM = """
import dataclasses, json, sys
import otel_sessions
from otel_sessions.demo import Provider, clients_for, run

otel_sessions.configure(store=sys.argv[1], service_name="demo")
with Provider() as provider:
    sync, asynchronous = clients_for(provider.port)
    with sync:
        session_id = run(sync, asynchronous)
delivered = otel_sessions.shutdown(30)
assert delivered.ok, delivered
print(json.dumps([session_id, [dataclasses.asdict(exchange) for exchange in provider.exchanges]]))
"""


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "COLUMNS"))}
    # A proxy in the environment must not receive what is meant for loopback.
    return {**kept, "XDG_DATA_HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def rehearsed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[dict[str, Any]], SessionRow, list[StepRow], list[CallRow]]:
    home = tmp_path_factory.mktemp("demo")
    dsn = f"chdb://{home / 'store'}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, dsn],
        capture_output=True, text=True, check=False, timeout=100, env=environment(home),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    session_id, exchanges = json.loads(done.stdout)
    with open_store(dsn) as store:
        reader = store.reader()
        return exchanges, reader.session(session_id), reader.steps(session_id), reader.calls(session_id)


def test_the_tree_is_the_agents(rehearsed: Any) -> None:
    """Every step of the agent is a path with its calls, those below included; the parallel ones overlap in time."""
    _, session, steps, _ = rehearsed
    assert (session.session_name, session.user_ids, session.services) == ("support-triage", ["user-4711"], ["demo"])
    assert {step.path: (step.own_calls, step.calls, step.errors) for step in steps} == {
        "/": (0, 9, 1),
        "/triage": (0, 9, 1),
        "/triage/classify": (1, 1, 0),
        "/triage/research": (0, 5, 1),
        "/triage/research/handbook": (2, 2, 0),
        "/triage/research/history": (1, 1, 0),
        "/triage/research/similar": (2, 2, 1),
        "/triage/respond": (1, 3, 0),
        "/triage/respond/review": (1, 1, 0),
        "/triage/respond/subject": (1, 1, 0),
    }
    research = [step for step in steps if step.parent_path == "/triage/research"]
    assert max(step.started_at for step in research) < min(step.ended_at for step in research)


def test_the_store_has_what_the_provider_sent(rehearsed: Any) -> None:
    """One call per exchange, retried ones included, with the tokens of the provider's own usage, cache and all."""
    exchanges, _, _, calls = rehearsed

    def sent(exchange: dict[str, Any]) -> tuple[Any, ...]:
        usage = exchange["usage"] or {}
        cached = usage.get("cache_read_input_tokens")
        written = usage.get("cache_creation_input_tokens")
        tokens_in = usage.get("prompt_tokens", usage.get("input_tokens"))
        inclusive = tokens_in if cached is None else tokens_in + cached + written
        host = exchange["host"].removeprefix("api.").removesuffix(".com")
        out = usage.get("completion_tokens", usage.get("output_tokens"))
        return (host, exchange["status"], inclusive, out or 0, cached or 0, written or 0)

    stored = [
        (row.provider, row.http_status, row.input_tokens, row.output_tokens or 0, row.cached_input_tokens or 0,
         row.cache_write_tokens or 0)
        for row in calls
    ]  # fmt: skip
    assert sorted(stored, key=repr) == sorted(map(sent, exchanges), key=repr)


def test_every_call_that_worked_has_a_price(rehearsed: Any) -> None:
    """The demo's models are in the price book, so the session's cost is complete and the sum of its calls."""
    _, session, _, calls = rehearsed
    assert [row.cost_status for row in calls if row.status == "error"] == ["no_usage"]
    assert {row.cost_status for row in calls if row.status != "error"} == {"priced"}
    assert session.cost_status == "complete"
    assert session.cost_usd == sum((row.cost_usd for row in calls if row.cost_usd is not None), Decimal(0))


def test_streams_have_a_time_to_first_chunk(rehearsed: Any) -> None:
    """Of the calls, the three streamed ones say when their first chunk came."""
    calls = rehearsed[3]
    assert sorted(row.provider for row in calls if row.ttft_seconds is not None) == ["anthropic", "groq", "openai"]
    assert all(0 < row.ttft_seconds < row.duration_seconds for row in calls if row.ttft_seconds is not None)


def otel_sessions(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_sessions.cli", *arguments],
        capture_output=True, text=True, check=False, timeout=100, env=environment(home),
    )  # fmt: skip


def test_the_command_shows_the_tree_and_fills_the_local_store(tmp_path: Path) -> None:
    """``otel-sessions demo`` prints what it does, the tree, and what to type next, which then works."""
    shown = otel_sessions(tmp_path, "demo")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    for part in ("loopback", "└─ triage", "├─ classify", "✗ 429 text-embedding-3-small", "cost     $0.0", "Next:"):
        assert part in shown.stdout
    [listed] = json.loads(otel_sessions(tmp_path, "list", "--json").stdout)
    assert f"otel-sessions show {listed['session_id']}" in shown.stdout
    assert (tmp_path / "otel-sessions" / "store").is_dir()


def test_a_store_that_is_in_use_does_not_stop_the_demo(tmp_path: Path) -> None:
    """Where another process holds the local store, the demo says so and goes on in memory."""
    with open_store(f"chdb://{tmp_path / 'otel-sessions' / 'store'}") as store:
        store.migrate()
        shown = otel_sessions(tmp_path, "demo")
    assert shown.returncode == 0, shown.stderr
    assert "another process" in shown.stderr
    assert "in memory" in shown.stderr
    assert "└─ triage" in shown.stdout


def test_an_sdk_that_is_missing_is_one_line_with_the_command(tmp_path: Path) -> None:
    """Without the demo's SDKs, the demo says what to install and exits 1."""
    program = (
        "import sys; sys.modules['groq'] = None; sys.argv = ['otel-sessions', 'demo']; "
        "from otel_sessions.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(tmp_path),
    )
    assert done.returncode == 1
    assert done.stderr == "error: the demo needs groq, which is not installed: pip install 'otel-sessions[demo]'\n"


def test_prompts_are_cached_from_the_second_time_on() -> None:
    """A marked system prompt is written to the cache by the first request and read by the next one."""
    system = [{"type": "text", "text": "rule " * 400, "cache_control": {"type": "ephemeral"}}]
    request = {"model": "claude-haiku-5-5", "system": system, "messages": [{"role": "user", "content": "Which rule?"}]}
    cache: set[str] = set()
    first, second = (wire.messages_usage(wire.answer(request, cache)) for _ in range(2))
    keys = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    assert [first[key] for key in keys] == [10, 500, 0]
    assert [second[key] for key in keys] == [10, 0, 500]


def test_streams_add_up_to_the_answer() -> None:
    """The pieces of a stream are the text of the whole document, on all wire formats."""
    said = wire.answer({"model": "m", "messages": [{"role": "user", "content": "Draft it"}]}, set())
    chunks = [json.loads(event[6:]) for event in wire.chat_stream(said, wire.groq_tail(said)) if "[DONE]" not in event]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == said.text
    events = [json.loads(event.split("data: ")[1]) for event in wire.messages_stream(said)]
    assert "".join(event.get("delta", {}).get("text", "") for event in events) == said.text
    assert wire.chat(said)["choices"][0]["message"]["content"] == said.text


def test_the_provider_stops() -> None:
    """When its block ends, the provider's port is free and its thread is gone."""
    with Provider() as provider:
        sync, _ = clients_for(provider.port)
        with sync:
            answer = sync.openai.responses.create(model="gpt-6-sol", input="Correct this")
            assert answer.output_text.startswith("Hello")
            assert answer.usage is not None
            assert [exchange.usage for exchange in provider.exchanges] == [answer.usage.to_dict()]
    assert provider._thread is not None
    assert not provider._thread.is_alive()
