"""The whole way: SDK → capture → processor → delivery → chDB → views, in processes of their own."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

PATHS = ("/triage", "/triage/classify", "/triage/respond")
SESSION = "run 7"
PROGRAM = """
import sys
import httpx2, openai
import otel_sessions

def answer(request):
    assert not any(name.lower().startswith(("otel-session", "helicone")) for name in request.headers)
    assert "traceparent" not in request.headers and "baggage" not in request.headers
    return httpx2.Response(200, json={
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010,
                  "prompt_tokens_details": {"cached_tokens": 400}},
    })

otel_sessions.configure(store=sys.argv[1])
client = openai.OpenAI(api_key="sk-test", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
for path in sys.argv[3:]:
    client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hello"}],
        extra_headers={"OTel-Session-Id": sys.argv[2], "OTel-Session-Name": "triage", "OTel-Session-Path": path},
    )
print(otel_sessions.shutdown(30))
"""

Ask = Callable[[str], list[dict[str, Any]]]


def run(store: str, paths: Sequence[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, store, SESSION, *paths],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "pending=0, dropped=0" in done.stdout, done.stdout + done.stderr


def ask(store: str, query: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "otel_sessions.cli", "--store", store, "sql", "--json", query],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def trace_id() -> str:
    return hashlib.sha256(SESSION.encode()).digest()[:16].hex()


def step_id(path: str) -> str:
    return hashlib.sha256(f"{SESSION}\n{path}".encode()).digest()[:8].hex()


def picture(store: str) -> dict[str, Any]:
    """What users see of the store's one session, without times."""
    numbers = "calls, errors, input_tokens, output_tokens, cost_usd"
    return {
        "session": ask(store, f"SELECT session_id, session_name, {numbers}, cached_input_tokens, total_tokens, cost_status, "
                              "unpriced_calls, models, providers FROM sessions"),
        "steps": ask(store, "SELECT path, parent_path, depth, calls, errors, input_tokens, output_tokens, cost_usd, own_calls, "
                            "own_input_tokens, own_cost_usd FROM session_steps ORDER BY path"),
        "spans": ask(store, "SELECT DISTINCT TraceId, ParentSpanId, if(SpanKind = 'Internal', SpanId, '') AS step, "
                            "SpanAttributes['session.path'] AS path FROM otel_traces ORDER BY path, step"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = f"chdb://{tmp_path_factory.mktemp('one')}"
    run(store, PATHS)
    return picture(store)


def test_headers_alone_make_the_session_tree(one_process: dict[str, Any]) -> None:
    """Three calls tagged by headers are one trace by the formula, with a step span per path and no missing parent."""
    assert one_process["spans"] == [
        {"TraceId": trace_id(), "ParentSpanId": parent, "step": step, "path": path}
        for parent, step, path in [
            ("", step_id("/"), "/"),
            (step_id("/triage"), "", "/triage"),
            (step_id("/"), step_id("/triage"), "/triage"),
            (step_id("/triage/classify"), "", "/triage/classify"),
            (step_id("/triage"), step_id("/triage/classify"), "/triage/classify"),
            (step_id("/triage/respond"), "", "/triage/respond"),
            (step_id("/triage"), step_id("/triage/respond"), "/triage/respond"),
        ]
    ]


def test_the_sums_are_right(one_process: dict[str, Any]) -> None:
    """Own and inclusive numbers are the sums of what the provider reported, at its list price."""
    cost = (600 * 2.5 + 400 * 1.25 + 10 * 10) / 1e6
    [session] = one_process["session"]
    assert (session["session_id"], session["session_name"]) == (SESSION, "triage")
    assert (session["calls"], session["errors"], session["unpriced_calls"]) == (3, 0, 0)
    assert (session["input_tokens"], session["cached_input_tokens"], session["output_tokens"]) == (3000, 1200, 30)
    assert session["total_tokens"] == 3030
    assert session["cost_status"] == "complete"
    assert float(session["cost_usd"]) == pytest.approx(3 * cost, abs=1e-12)
    steps = {step["path"]: step for step in one_process["steps"]}
    assert {path: (step["own_calls"], step["calls"]) for path, step in steps.items()} == {
        "/": (0, 3),
        "/triage": (1, 3),
        "/triage/classify": (1, 1),
        "/triage/respond": (1, 1),
    }
    assert float(steps["/triage"]["own_cost_usd"]) == pytest.approx(cost, abs=1e-12)


@pytest.mark.parametrize("order", list(itertools.permutations(PATHS))[1::2], ids=">".join)
def test_processes_that_share_only_the_id_agree(
    one_process: dict[str, Any], order: tuple[str, ...], tmp_path: Path
) -> None:
    """The same calls from three processes, in any order, give the same trace, tree and numbers."""
    store = f"chdb://{tmp_path / 'store'}"
    for path in order:
        run(store, [path])
    assert picture(store) == one_process
