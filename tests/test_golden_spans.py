"""Spans that real instrumentations write are read right, alone and together; each exchange is one billable call.

``golden_agent.py`` makes known exchanges with real SDKs, and each instrumentation that is installed describes them. Of
those that cannot live beside these SDKs ``golden_spans/`` has what they wrote. ``golden_spans/unsaid.json`` lists what
each does not say of an exchange, and what it says wrong; all else has to be read as it was.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from memory_store import memory_store
from opentelemetry.sdk.trace import ReadableSpan
from recorded_spans import written

from otel_sessions.prices import book_version, rows_for
from otel_sessions.store import Store

HERE = Path(__file__).parent
FOLDER = HERE / "golden_spans"
LIVE = {
    "openai": "ours openinference genai traceloop logfire",
    "langfuse": "ours openai-openinference openai-genai openai-traceloop langfuse",
    "anthropic": "ours openinference genai sdk traceloop logfire",
    "anthropic-bedrock": "ours openinference genai sdk traceloop",
    "google": "ours openinference otel traceloop",
    "mistral": "ours openinference sdk",
    "groq": "ours openinference traceloop",
    "bedrock": "openinference genai botocore traceloop",
    "langchain": "ours openinference traceloop openai-openinference openai-genai openai-traceloop langsmith",
    "pydantic-ai": "ours native openai-openinference openai-genai openai-traceloop",
}
"""Scenarios, and the instrumentations that can describe them."""
RECORDED = {json.loads(file.read_text())["run"]: file for file in FOLDER.glob("*.json") if file.name != "unsaid.json"}
UNSAID = json.loads((FOLDER / "unsaid.json").read_text())
MODULES = ("langfuse", "logfire", "boto3", "langchain_openai", "pydantic_ai", "openinference.instrumentation.bedrock")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


needs_instrumentations = pytest.mark.skipif(
    not all(map(_installed, MODULES)), reason="needs the extra `instrumentations`: the instrumentations of others"
)


def runs_of(scenario: str) -> list[str]:
    """Each instrumentation alone, every two, and all at once: with ours and without, with Logfire's and without."""
    names = LIVE[scenario].split()
    together = [
        [name for name in names if name not in left_out] for left_out in ("", "ours", "logfire", "ours logfire")
    ]
    chosen = [list(each) for count in (1, 2) for each in combinations(names, count)] + together
    # Those of a framework's SDK without the framework are in the SDK's own scenario.
    return list(dict.fromkeys("+".join(each) for each in chosen if not all(map(_is_of_sdk, each))))


def _is_of_sdk(name: str) -> bool:
    return name.startswith("openai-")


RUNS = [(scenario, run) for scenario in LIVE for run in runs_of(scenario)]


@dataclass(frozen=True, slots=True)
class Truth:
    """An exchange as the server on loopback answered it. Of several names of a model, or finish, each is right."""

    provider: str
    models: tuple[str, ...]
    operations: tuple[str, ...] = ("chat",)
    tokens: tuple[int | None, ...] = (100, 40, None, 20, 7)
    finish: tuple[str, ...] = ("stop", "completed")
    is_error: bool = False
    streamed: bool = False


CLAUDE = "claude-sonnet-4-5-20250929"
ON_BEDROCK = (CLAUDE, f"{CLAUDE}-v1:0", f"anthropic.{CLAUDE}-v1:0")
COUNTS = ("input", "cached", "cache_write", "output", "reasoning")
_OF_CLAUDE: dict[str, Any] = {"tokens": (90, 50, 30, 20, None), "finish": ("end_turn", "stop")}
_OF_GEMINI: dict[str, Any] = {
    "operations": ("generate_content", "chat"), "tokens": (100, 40, None, 20, 7), "finish": ("stop",),
}  # fmt: skip


def truth_of(scenario: str, exchange: str) -> Truth:
    """What happened."""
    kind = exchange.partition("-")[0]
    mode: dict[str, Any] = {"streamed": exchange.endswith("stream")}
    if scenario in {"bedrock", "anthropic-bedrock"}:
        return _failed("aws.bedrock") if kind == "error" else Truth("aws.bedrock", ON_BEDROCK, **_OF_CLAUDE, **mode)
    if kind == "messages":
        return Truth("anthropic", ("claude-sonnet-4-5", CLAUDE), **_OF_CLAUDE, **mode)
    if scenario in {"google", "adk"}:
        found = Truth("gcp.gemini", ("gemini-2.5-flash",), **_OF_GEMINI, **mode)
        return _failed("gcp.gemini", _OF_GEMINI["operations"]) if kind == "error" else found
    provider, models = {
        "mistral": ("mistral_ai", ("mistral-large-latest",)),
        "groq": ("groq", ("llama-3.3-70b-versatile",)),
        "anthropic": ("anthropic", ()),
    }.get(scenario, ("openai", ("gpt-4o", "gpt-4o-2024-08-06")))
    if kind == "error":
        return _failed(provider)
    if kind == "embeddings":
        return Truth(provider, ("text-embedding-3-small",), ("embeddings",), (100, None, None, None, None), ())
    return Truth(provider, models, **mode)


def _failed(provider: str, operations: tuple[str, ...] = ("chat",)) -> Truth:
    return Truth(provider, ("no-such-model",), operations, (None,) * 5, (), is_error=True)


Span = dict[str, Any]
Calls = dict[str, list[dict[str, Any]]]
"""The calls that the store has of one run, by exchange."""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as opened:
        models = ("gpt-4o", "gpt-4o-2024-08-06", "text-embedding-3-small")
        named = [("openai", model) for model in models] + [("aws.bedrock", model) for model in ON_BEDROCK]
        named += [("anthropic", "claude-sonnet-4-5"), ("anthropic", CLAUDE), ("gcp.gemini", "gemini-2.5-flash")]
        named += [("mistral_ai", "mistral-large-latest"), ("groq", "llama-3.3-70b-versatile")]
        opened.add_prices([row for provider, model in named for row in rows_for(provider, model)], book_version())
        yield opened


@cache
def spans_of(scenario: str) -> dict[str, list[Span]]:
    """The spans of each run of a scenario, or of those that were recorded."""
    if scenario == "recorded":
        return {run: json.loads(file.read_text())["spans"] for run, file in RECORDED.items()}
    runs = runs_of(scenario)
    command = [sys.executable, "-W", "ignore", str(HERE / "golden_agent.py"), scenario, *runs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, cwd=HERE)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"run"')]
    assert len(lines) == len(runs), done.stderr[-2000:]
    return {line["run"].partition("/")[2]: line["spans"] for line in lines}


_COLUMNS = (
    "trace_id", "session_id", "path", "started_at", "scope", "operation", "provider", "request_model", "response_model",
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "finish_reasons",
    "streamed", "ttft_seconds", "duration_seconds", "status", "error_type", "http_status", "cost_usd", "cost_status",
)  # fmt: skip


@pytest.fixture(scope="module")
def read(store: Store) -> Callable[[str, str], Calls]:
    """The calls of a run. All runs of its scenario arrive in two batches, and are settled after each."""

    @cache
    def calls_of(scenario: str) -> dict[str, Calls]:
        runs = spans_of(scenario)
        spans = [span for each in runs.values() for span in each]
        for part in (spans[::2], spans[1::2]):
            store.insert([written(span) for span in part], uuid.uuid4().hex)
            store.settle()
        found: dict[str, Calls] = {run: {} for run in runs}
        run_of = {span["trace"]: run for run, each in runs.items() for span in each}
        traces = ", ".join(f"'{trace}'" for trace in sorted(run_of))
        query = f"SELECT {', '.join(_COLUMNS)} FROM session_calls WHERE trace_id IN ({traces})"
        for row in store.reader().query(query).rows:
            call = dict(zip(_COLUMNS, row, strict=True))
            run = run_of[call["trace_id"]]
            found[run].setdefault(_exchange_of(call, runs[run]), []).append(call)
        return found

    return lambda scenario, run: calls_of(scenario)[run]


def _exchange_of(call: dict[str, Any], spans: list[Span]) -> str:
    """By its path; for a call that found no session, by its time."""
    if call["session_id"]:
        return str(call["path"].removeprefix("/"))
    at = call["started_at"].timestamp() * 1e9
    steps = (span for span in spans if span["name"] == "step" and span["start"] - 1e6 <= at <= span["end"])
    return str(next(steps)["attributes"]["session.path"].removeprefix("/"))


def exchanges_of(spans: list[Span]) -> list[str]:
    """The exchanges that the program made, as the spans around them are named."""
    paths = {str(span["attributes"].get("session.path", "")).removeprefix("/") for span in spans}
    return sorted(paths - {""})


class Judgement:
    """What a call's row says of an exchange, held against what happened."""

    def __init__(self, call: dict[str, Any], truth: Truth) -> None:
        self.unsaid: list[str] = []
        self.wrong: dict[str, Any] = {}
        self._call, self._truth = call, truth
        self._names()
        if truth.is_error:
            self._judge("error_type", call["error_type"], right=True)
            self._judge("status", call["status"], right=call["status"] == "error")
        else:
            self._answer()
            self._usage()

    def _judge(self, name: str, said: Any, *, right: bool) -> None:
        if said in (None, "", []):
            self.unsaid.append(name)
        elif not right:
            self.wrong[name] = str(said) if isinstance(said, Decimal) else said

    def _names(self) -> None:
        call, truth = self._call, self._truth
        models = {call["request_model"], call["response_model"]} - {""}
        self._judge("session", call["session_id"], right=True)
        self._judge("provider", call["provider"], right=call["provider"] == truth.provider)
        model = call["response_model"] or call["request_model"]
        self._judge("model", model, right=models <= set(truth.models))
        self._judge("operation", call["operation"], right=call["operation"] in truth.operations)

    def _answer(self) -> None:
        call, truth = self._call, self._truth
        finish = [reason.lower() for reason in call["finish_reasons"]]
        if truth.finish:
            self._judge("finish", finish, right=set(finish) <= set(truth.finish))
        if truth.streamed:
            self._judge(
                "ttft", call["ttft_seconds"], right=0 < (call["ttft_seconds"] or 0) < call["duration_seconds"] + 1
            )

    def _usage(self) -> None:
        call, truth = self._call, self._truth
        said = [call[f"{name}_tokens"] for name in ("input", "cached_input", "cache_write", "output", "reasoning")]
        for name, count, right in zip(COUNTS, said, truth.tokens, strict=True):
            if count or right:
                self._judge(name, count or None, right=count == right)
        if (said[0], said[3] or None) == (truth.tokens[0], truth.tokens[3]):
            # By the book of what is said, or by the instrumentation, of what it knows.
            prices = {price_of(truth, [count or 0 for count in counts]) for counts in (said, truth.tokens)}
            self._judge("cost", call["cost_usd"], right=call["cost_usd"] in prices)


def price_of(truth: Truth, counts: list[int]) -> Decimal:
    """What genai-prices asks for these tokens."""
    usage = genai_prices.Usage(
        input_tokens=counts[0], cache_read_tokens=counts[1], cache_write_tokens=counts[2], output_tokens=counts[3]
    )
    named = {"aws.bedrock": "aws", "gcp.gemini": "google", "mistral_ai": "mistral"}.get(truth.provider, truth.provider)
    now = datetime.now(UTC)
    return genai_prices.calc_price(usage, truth.models[0], provider_id=named, genai_request_timestamp=now).total_price


def judged(found_calls: Calls, scenario: str, exchanges: list[str]) -> dict[str, Any]:
    """The fields that are not said, and those said wrong, each with the exchanges that they are missing in."""
    found: dict[str, Any] = {}
    for exchange in exchanges:
        calls = found_calls.get(exchange, [])
        if len(calls) != 1:
            found.setdefault("calls", {})[exchange] = len(calls)
            continue
        judgement = Judgement(calls[0], truth_of(scenario, exchange))
        for name in judgement.unsaid:
            found.setdefault("unsaid", {}).setdefault(name, []).append(exchange)
        for name, said in judgement.wrong.items():
            found.setdefault("wrong", {}).setdefault(name, {})[exchange] = said
    return found


Read = Callable[[str, str], Calls]


@pytest.mark.parametrize("run", sorted(RECORDED))
def test_what_others_wrote_is_read_as_it_was(read: Read, run: str) -> None:
    """Products that need other SDKs, or another language: one call per exchange, right in all that they say."""
    exchanges = exchanges_of(spans_of("recorded")[run])
    assert judged(read("recorded", run), run.partition("/")[0], exchanges) == UNSAID.get(run, {})


@needs_instrumentations
@pytest.mark.parametrize(("scenario", "run"), [(scenario, run) for scenario, run in RUNS if "+" not in run])
def test_what_one_writes_is_read_as_it_was(read: Read, scenario: str, run: str) -> None:
    """Sync, async, streamed, refused: one call per exchange, right in all that the instrumentation says."""
    found = judged(read(scenario, run), scenario, exchanges_of(spans_of(scenario)[run]))
    assert found == UNSAID.get(f"{scenario}/{run}", {})


@needs_instrumentations
@pytest.mark.parametrize(("scenario", "run"), [(scenario, run) for scenario, run in RUNS if "+" in run])
def test_an_exchange_that_several_describe_is_one_call(read: Read, scenario: str, run: str) -> None:
    """Ours accounts for it and says all; without us one of the others, and nothing is missing but what that one lacks."""
    calls = read(scenario, run)
    found = judged(calls, scenario, exchanges_of(spans_of(scenario)[run]))
    # Logfire has all other instrumentations keep silent inside its own spans.
    is_ours = "ours" in run and "logfire" not in run
    lacks = [] if is_ours else [UNSAID.get(_name(scenario, name), {}) for name in run.split("+") if name != "ours"]
    assert found.get("calls", {}) == {}
    assert [each for each in _flat(found) if not any(each in _flat(lack) for lack in lacks)] == []
    if is_ours:
        assert {call["scope"] for [call] in calls.values()} == {"otel_sessions"}


def _name(scenario: str, name: str) -> str:
    return name.replace("-", "/", 1) if _is_of_sdk(name) else f"{scenario}/{name}"


def _flat(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each difference: unsaid or wrong, the field, the exchange."""
    return [
        (kind, name, exchange)
        for kind in ("unsaid", "wrong")
        for name, where in found.get(kind, {}).items()
        for exchange in where
    ]


ENDS = {
    "what counts": "SELECT session_id, session_source, path, trace_id, span_id FROM llm_calls",
    "what does not": "SELECT session_id, path, trace_id, span_id, reason, superseded_by FROM suppressed_spans",
    "sessions": "SELECT session_id, calls, errors, input_tokens, output_tokens FROM sessions",
    "steps": "SELECT session_id, path, calls, own_calls, input_tokens, output_tokens FROM session_steps",
    "templates": "SELECT path, sum(calls), sum(input_tokens) FROM path_templates GROUP BY path",
    "models": "SELECT model, sum(calls), sum(input_tokens) FROM model_usage GROUP BY model HAVING sum(calls) > 0",
}
ARRIVING = ("recorded", "mistral", "groq", "bedrock", "langchain")


@needs_instrumentations
def test_spans_end_up_the_same_in_whatever_order_they_arrive() -> None:
    """All at once, or in four batches at random, with what has arrived settled after each."""
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    runs = [(f"{scenario}/{run}", spans) for scenario in ARRIVING for run, spans in spans_of(scenario).items()]
    spans = [written(span, service) for service, spans in runs for span in _renamed(spans, chance)]
    chance.shuffle(spans)
    number = {span: chance.randrange(4) for span in spans}
    one, four = ends([spans]), ends([[span for span in spans if number[span] == turn] for turn in range(4)])
    for name in ENDS:
        assert four[name] == one[name], f"{name}, with seed {seed}"


def ends(batches: list[list[ReadableSpan]]) -> dict[str, list[Any]]:
    """What a store of its own says of spans that arrive in these batches."""
    with memory_store() as store:
        for batch in batches:
            store.insert(batch, uuid.uuid4().hex)
            store.settle()
        return {name: sorted(map(str, store.reader().query(query).rows)) for name, query in ENDS.items()}


def _renamed(spans: list[Span], chance: random.Random) -> list[Span]:
    """With ids by chance: they too have an order."""
    names = sorted({span[part] for span in spans for part in ("trace", "id", "parent")} - {""})
    given = {name: f"{chance.getrandbits(4 * len(name)):0{len(name)}x}" for name in names}
    return [{**span, **{part: given.get(span[part], "") for part in ("trace", "id", "parent")}} for span in spans]
