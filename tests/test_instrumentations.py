"""The real instrumentations, alone and together, with and without ours: each exchange is read right and counts once."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

AGENT = Path(__file__).with_name("instrumented_agent.py")
OPENAI = [[100, 40, 20]] * 4
CLAUDE = [[90, 50, 20]] * 3
NEEDED = ("langfuse", "logfire", "openinference", "opentelemetry.instrumentation.genai.openai")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not all(map(_installed, NEEDED)), reason="needs the extra `instrumentations`: the instrumentations of others"
)


@pytest.mark.parametrize(
    "active",
    [
        "openinference",
        "genai",
        "traceloop",
        "logfire",
        "ours sdk",
        "ours openinference",
        "ours genai",
        "ours traceloop",
        "ours langfuse",
        "ours logfire",
        "openinference genai sdk",
        "openinference genai traceloop sdk",
        "ours openinference genai traceloop sdk langfuse",
    ],
)
def test_seven_exchanges_are_seven_calls(active: str, tmp_path: Path) -> None:
    """Sync, async and streamed, of two providers, whoever describes them and however many do: 670 tokens in, 140 out."""
    dsn = f"chdb://{tmp_path}/store"
    command = [sys.executable, str(AGENT), dsn, "s1", *active.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert sorted(call[1:] for call in found["calls"]) == sorted(OPENAI + CLAUDE)
    if "ours" in active and "logfire" not in active:
        assert {call[0] for call in found["calls"]} == {"otel_sessions"}
    described = len(found["calls"]) + len(found["left_out"])
    assert described >= 7 * len([name for name in active.split() if name not in {"sdk", "langfuse", "ours", "logfire"}])


def test_langfuse_alone(tmp_path: Path) -> None:
    """It describes OpenAI's calls, with the usage as JSON."""
    command = [sys.executable, str(AGENT), f"chdb://{tmp_path}/store", "s1", "langfuse"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.stdout, done.stderr[-2000:]
    assert [call[1:] for call in json.loads(done.stdout.splitlines()[-1])["calls"]] == OPENAI
