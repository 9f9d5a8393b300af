"""One exchange counts once, though several spans describe it and arrive in any order, and it counts in its session."""

from __future__ import annotations

import itertools
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Status, StatusCode
from recorded_spans import call, span

from otel_sessions.base.paths import session_trace_id, step_span_id
from otel_sessions.store import Store, open_store

TOTALS = "SELECT calls, input_tokens, output_tokens FROM sessions WHERE session_id = 's1'"


def insert(store: Store, *spans: ReadableSpan) -> None:
    store.insert(spans, uuid.uuid4().hex)


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return store.reader().query(sql).rows


def other(number: int, scope: str = "openinference", response: str | None = None, **rest: Any) -> ReadableSpan:
    """The LLM span of another instrumentation."""
    more = {"gen_ai.response.id": response} if response else {}
    more |= rest.pop("more", {})
    return call(number, more=more, scope=InstrumentationScope(scope), **rest)


def check(store: Store, calls: int, reasons: dict[str, str]) -> None:
    """``calls`` of 100 and 10 tokens count, everywhere; the spans of ``reasons`` do not."""
    assert rows(store, TOTALS) == [(calls, 100 * calls, 10 * calls)]
    assert rows(store, "SELECT count(), sum(input_tokens) FROM llm_calls") == [(calls, 100 * calls)]
    assert rows(store, "SELECT sum(calls), sum(input_tokens) FROM model_usage") == [(calls, 100 * calls)]
    assert rows(store, "SELECT calls FROM session_steps WHERE path = '/'") == [(calls,)]
    assert rows(store, "SELECT calls FROM path_templates WHERE path = '/'") == [(calls,)]
    found = rows(store, "SELECT span_id, reason FROM suppressed_spans ORDER BY span_id")
    assert dict(found) == {f"{int(number):016x}": reason for number, reason in reasons.items()}


NESTED = (
    other(1, "traceloop", "r1", start=0, seconds=4),
    other(2, "openinference", start=0.5, seconds=3, parent=1),
    other(3, "com.anthropic.sdk.python", "r1", start=1, seconds=2, parent=2),
)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_spans_inside_each_other_count_once_in_any_order_of_arrival(store: Store, order: tuple[int, ...]) -> None:
    """Three instrumentations around one request, each span in a batch of its own: the innermost counts."""
    for number in order:
        insert(store, NESTED[number])
        rows(store, TOTALS)
    assert rows(store, TOTALS) == [(1, 100, 10)]
    assert rows(store, "SELECT span_id FROM llm_calls") == [("0000000000000003",)]
    assert len(rows(store, "SELECT * FROM suppressed_spans")) == 2


def test_attempts_inside_one_span_are_calls_of_their_own(store: Store) -> None:
    """A retry was paid for: two requests below one span of a framework are two calls."""
    insert(store, other(1, "framework", "r2", seconds=9))
    insert(store, other(2, "sdk", "r1", start=1, parent=1), other(3, "sdk", "r2", start=3, parent=1))
    check(store, 2, {"1": "wrapper"})


def test_spans_with_one_response_id_beside_each_other_count_once(store: Store) -> None:
    """An instrumentation that does not make its span current leaves no nesting: the response id tells."""
    insert(store, other(1, "traceloop", "r1", start=0, seconds=3), other(2, "genai", "r1", start=0.1, seconds=2))
    check(store, 1, {"1": "same response id"})


def test_a_refused_call_that_two_describe_beside_each_other_counts_once(store: Store) -> None:
    """There is neither usage nor a response id to tell: model and time are the same, the instrumentation is not."""
    failed: dict[str, Any] = {"input_tokens": None, "output_tokens": None, "status": Status(StatusCode.ERROR)}
    insert(
        store, other(1, "traceloop", start=0, seconds=3, **failed), other(2, "genai", start=0.1, seconds=2, **failed)
    )
    assert rows(store, "SELECT calls, errors FROM sessions WHERE session_id = 's1'") == [(1, 1)]
    assert rows(store, "SELECT span_id, reason FROM suppressed_spans") == [("0000000000000001", "same usage")]


REFUSED: dict[str, Any] = {
    "input_tokens": None,
    "output_tokens": None,
    "status": Status(StatusCode.ERROR),
    "more": {"http.response.status_code": 401},
}


def own_costs(store: Store) -> dict[str, Any]:
    """Cost and own cost by path, of which two views say the same."""
    found = [
        {path: known for path, *known in rows(store, f"SELECT path, cost_usd, own_cost_usd FROM {view}")}
        for view in ("session_steps", "path_templates")
    ]
    assert found[0] == found[1]
    return found[0]


def test_a_refused_call_that_is_left_out_makes_no_cost_known(store: Store) -> None:
    """Once by two instrumentations, the cost is 0; beside a call without a price it is not known."""
    insert(store, other(1, "traceloop", seconds=3, **REFUSED), other(2, "genai", start=0.1, seconds=2, **REFUSED))
    assert own_costs(store) == {"/": [0, 0]}
    insert(store, call(3, start=9))
    assert own_costs(store) == {"/": [None, None]}
    assert rows(store, "SELECT cost_usd, cost_status, calls FROM sessions") == [(None, "unknown", 2)]


def test_a_refused_call_takes_its_cost_along(store: Store) -> None:
    """Moved to the path of a step that arrives later, it costs 0 there; what stays at the root is unknown as before."""
    alone = other(3, session="", path="", parent=2, start=2, **REFUSED)
    insert(store, LATE_PARENT[0][0], call(4, start=8), alone)
    assert own_costs(store) == {"/": [None, None]}
    insert(store, *LATE_PARENT[1])
    assert own_costs(store) == {"/": [None, None], "/triage": [0, 0]}
    assert rows(store, "SELECT cost_p50_usd FROM path_templates ORDER BY path") == [(None,), (0,)]


def test_of_two_that_differ_in_output_the_one_with_more_details_counts(store: Store) -> None:
    """Some leave reasoning out of the output."""
    details = {"gen_ai.usage.reasoning.output_tokens": 4}
    insert(store, other(1, "traceloop", "r1", start=0, seconds=3, output_tokens=6))
    insert(store, other(2, "openinference", start=0.1, seconds=2, more=details))
    check(store, 1, {"1": "same usage"})


def test_a_session_named_above_wins_over_a_conversation(store: Store) -> None:
    """Frameworks make up a conversation for each run; whoever names the session at the root means that one."""
    root = span(1, {"session.id": "s1", "session.path": "/ask"}, seconds=5)
    agent = span(2, {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c1"}, seconds=4, parent=1)
    said = {"session.id": None, "session.path": None, "gen_ai.conversation.id": "c1"}
    insert(store, root, agent, other(3, "pydantic-ai", start=1, parent=2, more=said))
    found = rows(store, "SELECT session_id, path, session_source FROM session_calls")
    assert found == [("s1", "/ask", "parent")]


def test_our_span_wins(store: Store) -> None:
    """It has the provider's own usage, whichever came first and lies where."""
    insert(store, other(1, "traceloop", "r1", start=0.2, seconds=1))
    rows(store, TOTALS)
    insert(store, call(2, start=0, seconds=3, more={"gen_ai.response.id": "r1"}))
    check(store, 1, {"1": "same response id"})


def test_one_id_for_all_responses_is_told_apart_by_time(store: Store) -> None:
    """A mock server answers everything with one id: as many calls as one instrumentation saw."""
    spans = [
        other(10 * turn + n, scope, "chatcmpl-1", start=5 * turn + n / 10)
        for turn in range(3)
        for n, scope in enumerate(("a", "b"), 1)
    ]
    insert(store, *spans)
    check(store, 3, {"1": "same response id", "11": "same response id", "21": "same response id"})


def test_parallel_calls_with_one_id_and_one_usage_stay_as_many_as_they_are(store: Store) -> None:
    """Four at once, each described twice: four."""
    spans = [
        other(10 * turn + n, scope, "chatcmpl-1", start=turn / 10 + n / 100)
        for turn in range(4)
        for n, scope in enumerate(("a", "b"), 1)
    ]
    insert(store, *spans)
    assert rows(store, TOTALS) == [(4, 400, 40)]


def test_without_response_ids_the_same_usage_below_the_same_parent_is_the_same_exchange(store: Store) -> None:
    """Langfuse names no response: model, usage, time and place have to do."""
    insert(store, span(9, {"session.id": "s1", "session.path": "/"}, seconds=9))
    insert(
        store,
        other(1, "langfuse-sdk", parent=9, start=1, seconds=3),
        other(2, "genai", "r1", parent=9, start=1.2, seconds=2),
        other(3, "genai", "r2", parent=9, start=6, seconds=2),
    )
    check(store, 2, {"1": "same usage"})


def test_the_same_usage_of_one_instrumentation_is_two_exchanges(store: Store) -> None:
    """Nobody describes an exchange twice beside itself."""
    insert(store, other(1, start=0, seconds=2), other(2, start=0.5, seconds=2))
    check(store, 2, {})


def test_a_span_that_alone_has_the_usage_counts_instead_of_those_inside(store: Store) -> None:
    """A stream whose request was seen without usage: the framework's span has it."""
    inner = other(2, "sdk", "r1", start=1, parent=1, input_tokens=None, output_tokens=None)
    insert(store, inner)
    rows(store, TOTALS)
    insert(store, other(1, "framework", seconds=4))
    check(store, 1, {"2": "nested"})


@pytest.mark.parametrize(
    "wall",
    [{"gen_ai.operation.name": "execute_tool"}, {"openinference.span.kind": "AGENT"}, {"gen_ai.tool.name": "search"}],
)
def test_what_a_tool_inside_a_call_calls_is_a_call_of_its_own(store: Store, wall: dict[str, str]) -> None:
    """Google's ADK runs the tools that a model asked for inside the model's span, and an agent may be a tool."""
    insert(store, other(1, "adk", "r1", seconds=9))
    insert(
        store, span(2, {"session.id": "s1", **wall}, start=1, seconds=7, parent=1, scope=InstrumentationScope("adk"))
    )
    insert(store, other(3, "adk", "r2", start=2, seconds=5, parent=2))
    insert(store, other(4, "sdk", "r2", start=3, seconds=3, parent=3))
    check(store, 2, {"3": "wrapper"})


def test_a_call_without_usage_around_an_agent_is_its_wrapper(store: Store) -> None:
    """It says nothing that could be billed, and what is inside does."""
    insert(store, other(1, "framework", seconds=9, input_tokens=None, output_tokens=None))
    agent = {"session.id": "s1", "gen_ai.operation.name": "invoke_agent"}
    insert(store, span(2, agent, start=1, seconds=7, parent=1, scope=InstrumentationScope("framework")))
    insert(store, other(3, "sdk", "r2", start=2, seconds=5, parent=2))
    check(store, 1, {"1": "wrapper"})


def test_a_log_that_has_the_usage_of_a_stream_stands_for_its_span(store: Store) -> None:
    """Logfire ends the span of a stream before the stream begins, and logs what it took."""
    log = {"logfire.span_type": "log", "duration": 2.5}
    insert(store, span(9, {"session.id": "s1"}, seconds=9))
    insert(
        store,
        other(1, "logfire.openai", start=1, seconds=0.1, parent=9, input_tokens=None, output_tokens=None),
        other(2, "logfire.openai", start=4, seconds=0, parent=9, more=log),
    )
    check(store, 1, {"1": "logged apart"})
    assert rows(store, "SELECT duration_seconds FROM session_calls") == [(2.5,)]


def chain(number: int, parent: int, **rest: Any) -> ReadableSpan:
    """A span of a framework around a call, which is in nobody's context."""
    return span(number, {}, parent=parent, scope=InstrumentationScope("langchain"), **rest)


@pytest.mark.parametrize("starts", [(1.0,), (1.0, 2.1, 3.2), (1.0, 1.01, 1.02)], ids=["one", "a loop", "a batch"])
def test_a_call_below_a_chain_in_nobodys_context_counts_once(store: Store, starts: tuple[float, ...]) -> None:
    """Another instrumentation describes it beside the chain: what the program itself has around both is the same."""
    insert(store, span(9, {"session.id": "s1", "otel_sessions.step": True}, seconds=9))
    insert(store, chain(8, 9, start=0.5, seconds=8))
    for number, start in enumerate(starts, 1):
        insert(
            store,
            chain(10 * number, 8, start=start, seconds=1),
            other(10 * number + 1, "langchain", parent=10 * number, start=start + 0.1, seconds=0.8),
            other(10 * number + 2, "genai", f"r{number}", parent=9, start=start + 0.2, seconds=0.6),
        )
    check(store, len(starts), {str(10 * number + 1): "same usage" for number in range(1, len(starts) + 1)})


@pytest.mark.parametrize("exported", [True, False], ids=["steps", "steps later"])
def test_a_step_between_a_chain_and_its_call_keeps_them_together(store: Store, exported: bool) -> None:  # noqa: FBT001
    """The program's step inside a node of a framework is above the call alone; both name it as their path."""
    trace = session_trace_id("s1")
    above, inside = (step_span_id("s1", path) for path in ("/graph", "/graph/node"))
    steps = [
        span(above, {"session.id": "s1", "session.path": "/graph", "otel_sessions.step": True}, trace=trace, seconds=9),
        span(
            inside,
            {"session.id": "s1", "session.path": "/graph/node", "otel_sessions.step": True},
            trace=trace,
            parent=above,
            seconds=9,
        ),
    ]
    insert(
        store,
        *(steps if exported else ()),
        chain(8, above, trace=trace, start=0.5, seconds=8),
        other(11, "langchain", path="/graph/node", parent=8, trace=trace, start=1, seconds=0.8),
        call(12, path="/graph/node", parent=inside, trace=trace, start=1.1, seconds=0.6),
        other(21, "langchain", path="/graph/other", parent=8, trace=trace, start=1.2, seconds=0.4),
    )
    check(store, 2, {"11": "same usage"})


def test_calls_of_two_steps_are_two_exchanges(store: Store) -> None:
    """At the same time, with the same usage, and each described by another instrumentation."""
    insert(store, span(1, {"session.id": "s1", "otel_sessions.step": True}, seconds=9), call(4, parent=1, start=8))
    for number, described in ((2, "langchain"), (3, "genai")):
        step = {"session.id": "s1", "session.path": f"/{described}", "otel_sessions.step": True}
        insert(store, span(number, step, parent=1, seconds=5), chain(10 * number, number, start=1))
        insert(store, other(10 * number + 1, described, parent=10 * number, start=1.1, seconds=0.5))
    assert rows(store, TOTALS) == [(3, 300, 30)]


def test_what_is_marked_in_process_hides_nothing(store: Store) -> None:
    """Ours lies inside the span that it marked, a third lies beside that one: all are the same exchange."""
    insert(store, other(1, "openinference", seconds=3, more={"otel_sessions.billable": False}))
    insert(store, call(2, start=0.2, seconds=2, parent=1, more={"gen_ai.response.id": "r1"}))
    insert(store, other(3, "mistral", start=0.1, seconds=2.5))
    check(store, 1, {"1": "marked in process", "3": "same usage"})


SILENT: dict[str, Any] = {"input_tokens": None, "output_tokens": None}
NAMELESS: dict[str, Any] = {"gen_ai.request.model": None, "gen_ai.response.model": None}


@pytest.mark.parametrize("count", [1, 3])
def test_a_span_without_usage_beside_one_that_has_it_is_the_same_exchange(store: Store, count: int) -> None:
    """Of a stream some see no usage, nor the model: what took place at the same time is the same."""
    for number in range(1, count + 1):
        insert(store, other(number, "traceloop", start=number / 10, seconds=2, more=NAMELESS, **SILENT))
        insert(store, other(16 + number, "genai", f"r{number}", start=number / 10 + 0.02, seconds=1.9))
    check(store, count, {str(number): "same time" for number in range(1, count + 1)})


@pytest.mark.parametrize(
    "apart",
    [
        {"start": 5},
        {"more": {"gen_ai.request.model": "gpt-5", "gen_ai.response.model": "gpt-5"}},
        {"more": {**NAMELESS, "gen_ai.provider.name": "groq"}},
        {"response": "r2"},
        {"status": Status(StatusCode.ERROR)},
        {"scope": "genai"},
    ],
    ids=["time", "model", "provider", "response", "outcome", "instrumentation"],
)
def test_a_span_without_usage_that_differs_is_a_call_of_its_own(store: Store, apart: dict[str, Any]) -> None:
    """Of unknown usage: later, another model or provider, another response, refused, or seen by the same eyes."""
    insert(store, other(1, "genai", "r1", start=0, seconds=2))
    insert(store, other(3, "genai", "r3", start=0.05, seconds=9, more={"gen_ai.response.model": "o1"}))
    insert(store, other(2, **{"scope": "traceloop", "start": 0.1, "seconds": 1.8, **SILENT, **apart}))
    assert rows(store, TOTALS) == [(3, 200, 20)]


def test_input_without_what_came_from_the_cache_is_the_same_usage(store: Store) -> None:
    """Some say of a Bedrock stream only what was not in the cache, and not that any was."""
    cached = {"gen_ai.usage.cache_read.input_tokens": 60, "gen_ai.usage.cache_creation.input_tokens": 30}
    insert(store, other(1, "traceloop", "r1", seconds=3, input_tokens=10))
    insert(store, other(2, "genai", start=0.1, seconds=2, more=cached))
    check(store, 1, {"1": "same time"})


def test_the_same_model_has_several_names(store: Store) -> None:
    """Some leave the vendor out."""
    named = {"gen_ai.request.model": "openai/gpt-4o", "gen_ai.response.model": None}
    insert(store, other(1, "traceloop", seconds=3, more=named))
    insert(store, other(2, "genai", "r1", start=0.1, seconds=2, more={"gen_ai.response.model": "gpt-4o"}))
    check(store, 1, {"1": "same usage"})


def test_of_what_does_not_count_the_last_reason_is_known(store: Store) -> None:
    """What arrives later may tell that another span accounts for it, or that it counts."""
    log = {"logfire.span_type": "log", "duration": 1.0}
    insert(store, span(9, {"session.id": "s1"}, seconds=9))
    insert(store, other(2, "logfire.openai", start=1, parent=9, **SILENT))
    insert(store, other(3, "logfire.openai", start=2, seconds=0, parent=9, more=log))
    check(store, 1, {"2": "logged apart"})
    insert(store, other(4, "sdk", "r1", start=1.1, seconds=0.5, parent=2))
    check(store, 1, {"2": "wrapper", "3": "same usage"})


def test_a_failed_attempt_without_usage_stays_a_call(store: Store) -> None:
    """The 429 before the answer is no repetition of it."""
    failed = other(2, "sdk", start=1, parent=1, input_tokens=None, output_tokens=None, status=Status(StatusCode.ERROR))
    insert(store, other(1, "framework", "r1", seconds=9), failed, other(3, "sdk", "r1", start=3, parent=1))
    assert rows(store, "SELECT calls, errors, input_tokens FROM sessions") == [(2, 1, 100)]


@pytest.mark.parametrize("root_first", [True, False])
def test_a_session_on_the_root_alone_is_that_of_its_calls(store: Store, root_first: bool) -> None:  # noqa: FBT001
    """Children without a session are summed up with the session above them, at its path, also if it arrives last."""
    root = span(1, {"session.id": "s1", "session.name": "support", "session.path": "/triage"}, seconds=9)
    inner = [
        span(2, {}, start=1, seconds=5, parent=1),
        other(3, "sdk", "r1", session="", path="", parent=2, start=2, cost=0.5),
    ]
    for batch in [[root], inner] if root_first else [inner, [root]]:
        insert(store, *batch)
        rows(store, "SELECT count() FROM llm_calls")
    assert rows(store, "SELECT session_id, session_source, path FROM llm_calls") == [("s1", "parent", "/triage")]
    assert rows(store, "SELECT calls, cost_usd, input_tokens FROM sessions") == [(1, Decimal("0.5"), 100)]
    assert rows(store, "SELECT path, own_calls FROM session_steps ORDER BY path") == [("/", 0), ("/triage", 1)]
    assert rows(store, "SELECT path, calls FROM path_templates ORDER BY path") == [("/", 1), ("/triage", 1)]
    assert rows(store, "SELECT sum(calls), sum(cost_usd) FROM model_usage") == [(1, Decimal("0.5"))]


def test_a_session_anywhere_in_the_trace_is_the_last_resort(store: Store) -> None:
    """A span beside the call names the session: nothing above it does."""
    insert(
        store, span(1, {}, seconds=9), span(2, {"session.id": "s1"}, parent=1), other(3, session="", path="", parent=1)
    )
    assert rows(store, "SELECT session_id, session_source, path FROM llm_calls") == [("s1", "trace", "/")]


LATE_PARENT = (
    [span(1, {"session.id": "s1"}, seconds=9), other(3, session="", path="", parent=2, start=2)],
    [span(2, {"session.id": "s1", "session.path": "/triage"}, parent=1, start=1, seconds=5)],
)


def check_moved(store: Store) -> None:
    """The call is at the path of the step that arrived after it, in every table."""
    assert rows(store, "SELECT session_id, session_source, path FROM llm_calls") == [("s1", "parent", "/triage")]
    assert rows(store, "SELECT path, own_calls FROM session_steps ORDER BY path") == [("/", 0), ("/triage", 1)]
    assert rows(store, "SELECT path, calls FROM path_templates ORDER BY path") == [("/", 1), ("/triage", 1)]
    assert rows(store, TOTALS) == [(1, 100, 10)]


def test_a_step_that_arrives_after_its_call_gives_it_its_path(store: Store) -> None:
    """Also where the session was known before, from elsewhere in the trace."""
    for batch in LATE_PARENT:
        insert(store, *batch)
        store.settle()
    check_moved(store)


def test_settling_again_changes_nothing(store: Store) -> None:
    """What is settled stays, also when spans are delivered again and when another process settles."""
    insert(store, *NESTED)
    check(store, 1, {"1": "wrapper", "2": "wrapper"})
    insert(store, *NESTED[:2])
    assert rows(store, TOTALS) == [(1, 100, 10)]
    assert rows(store, "SELECT span_id FROM llm_calls") == [("0000000000000003",)]
    with open_store(f"chdb://memory?database={store._target.database}") as another:
        assert rows(another, TOTALS) == [(1, 100, 10)]


@pytest.mark.parametrize(("steps", "moved"), [(3, False), *((steps, True) for steps in range(8))])
def test_a_round_that_was_cut_short_is_finished(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    moved: bool,  # noqa: FBT001
) -> None:
    """Whichever step was the last one to succeed, the next run brings the same result."""
    first, second = LATE_PARENT if moved else (NESTED[2:], NESTED[:2])
    insert(store, *first)
    store.settle()
    settling = store._settling
    settling._settled_at = float("inf")  # not after an insert
    insert(store, *second)
    done: list[str] = []
    step = settling._step

    def fail_after(name: str, number: int) -> None:
        if len(done) == steps:
            raise RuntimeError
        step(name, number)
        done.append(name)

    monkeypatch.setattr(settling, "_step", fail_after)
    with pytest.raises(RuntimeError):
        settling.settle()
    monkeypatch.undo()
    if moved:
        check_moved(store)
    else:
        check(store, 1, {"1": "wrapper", "2": "wrapper"})


class Program:
    """By chance: steps, with calls in a loop or at once, each described by the same instrumentations.

    ``chain`` leaves its spans in nobody's context, within its own chain; ``mute`` sees no usage; the spans of
    ``current`` and ``around`` are around what the next ones write; ``current`` and ``beside`` name the response.
    """

    def __init__(self, number: int, chance: random.Random) -> None:
        self.spans: list[ReadableSpan] = []
        self.calls = self.tokens = 0
        self._number, self._chance, self._ids = number, chance, itertools.count(1)
        seen = chance.sample(("current", "around", "beside"), chance.randint(1, 2))
        self._scopes = ["chain"] * chance.randint(0, 1) + seen + ["mute"] * chance.randint(0, 1)
        self._is_batch = chance.random() < 0.5
        root = self._span(None, 0, 99, "app", {"session.id": f"s{number}"})
        start = 0.0
        for _ in range(chance.randint(1, 3)):
            start = self._step(root, start)

    def _step(self, root: int, start: float) -> float:
        step = self._span(root, start, 60, "app", {})
        chain = self._span(step, start, 60, "chain", {})
        for _ in range(self._chance.randint(1, 5)):
            seconds = self._chance.uniform(0.3, 3)
            self._exchange(step, chain, start, seconds)
            start += self._chance.random() / 50 + (0 if self._is_batch else seconds)
        return start + 4

    def _exchange(self, parent: int, chain: int, start: float, seconds: float) -> None:
        tokens = self._chance.choice((100, 130))
        self.calls, self.tokens = self.calls + 1, self.tokens + tokens
        for inwards, scope in enumerate(self._scopes):
            said: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
            if scope != "mute":
                said |= {"gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 10}
            if scope in {"current", "beside"}:
                said["gen_ai.response.id"] = f"r{self._number}-{self.calls}"
            place = chain if scope == "chain" else parent
            number = self._span(place, start + inwards / 1000, seconds - inwards / 500, scope, said)
            if scope in {"current", "around"}:
                parent = number

    def _span(self, parent: int | None, start: float, seconds: float, scope: str, said: dict[str, Any]) -> int:
        number = next(self._ids)
        rest: dict[str, Any] = {"trace": 0xABC + self._number, "scope": InstrumentationScope(scope)}
        rest["resource"] = Resource({"service.name": f"program {self._number}"})
        self.spans.append(span(number, said, parent=parent, start=start, seconds=seconds, **rest))
        return number


def test_as_many_calls_count_as_were_made(store: Store) -> None:
    """Whatever describes them, in whatever order, and whatever else takes place at the same time with the same usage."""
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    programs = [Program(number, chance) for number in range(100)]
    spans = [each for program in programs for each in program.spans]
    chance.shuffle(spans)
    insert(store, *spans[::2])
    store.settle()
    insert(store, *spans[1::2])
    found = {row[0]: row[1:] for row in rows(store, "SELECT session_id, calls, input_tokens FROM sessions")}
    made = {f"s{number}": (program.calls, program.tokens) for number, program in enumerate(programs)}
    assert {key: (found.get(key), made[key]) for key in made if found.get(key) != made[key]} == {}, f"seed {seed}"
