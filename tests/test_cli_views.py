"""Sessions, trees and results as lines of text, on rows made by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from otel_sessions.base.paths import lineage, normalize_path
from otel_sessions.cli.views.listing import head, listing
from otel_sessions.cli.views.result import result, to_csv
from otel_sessions.cli.views.tree import lines, tree
from otel_sessions.store import CallRow, SessionRow, StepRow, Table

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW = START + timedelta(minutes=5)

SESSION = SessionRow(
    session_id="s-1",
    session_name="support-triage",
    user_ids=["ada"],
    started_at=START,
    ended_at=START + timedelta(seconds=10),
    wall_seconds=10.0,
    llm_seconds=12.5,
    calls=3,
    errors=0,
    input_tokens=1_000,
    cached_input_tokens=400,
    cache_write_tokens=0,
    output_tokens=200,
    reasoning_tokens=50,
    total_tokens=1_200,
    cost_usd=Decimal("0.05"),
    cost_status="complete",
    unpriced_calls=0,
    no_usage_calls=0,
    latency_p50_seconds=4.0,
    latency_p95_seconds=5.0,
    models=["m-1"],
    providers=["openai"],
    services=["tests"],
    spans=9,
)


def step(path: str, at: float = 0.0, **more: Any) -> StepRow:
    above = lineage(path)
    row = StepRow(
        session_id="s-1",
        path=path,
        parent_path=above[-2] if len(above) > 1 else "",
        depth=len(above) - 1,
        started_at=START + timedelta(seconds=at),
        ended_at=START + timedelta(seconds=at + 1),
        wall_seconds=1.0,
        own_calls=1,
        own_errors=0,
        own_llm_seconds=1.0,
        own_input_tokens=10,
        own_output_tokens=1,
        own_cost_usd=Decimal("0.01"),
        own_unpriced_calls=0,
        calls=1,
        errors=0,
        llm_seconds=1.0,
        input_tokens=10,
        output_tokens=1,
        cost_usd=Decimal("0.02"),
        cost_status="complete",
        unpriced_calls=0,
        spans=2,
    )
    return replace(row, **more)


def call(path: str, at: float = 0.0, **more: Any) -> CallRow:
    row = CallRow(
        session_id="s-1",
        session_name="",
        path=path,
        trace_id="0" * 31 + "1",
        span_id=f"{int(at * 1000):016x}",
        parent_span_id="",
        started_at=START + timedelta(seconds=at),
        ended_at=START + timedelta(seconds=at + 0.5),
        duration_seconds=0.5,
        ttft_seconds=None,
        provider="openai",
        request_model="m-1",
        response_model="",
        operation="chat",
        input_tokens=10,
        cached_input_tokens=None,
        cache_write_tokens=None,
        output_tokens=1,
        reasoning_tokens=None,
        total_tokens=11,
        cost_usd=Decimal("0.01"),
        cost_status="priced",
        cost_source="",
        status="ok",
        error_type="",
        http_status=200,
        finish_reasons=[],
        streamed=False,
        response_end="complete",
        user_id="",
        service="",
        server_address="",
        service_tier="",
        response_id="",
        scope="",
        session_source="own",
    )
    return replace(row, **more)


def shown(drawn: list[Text]) -> list[str]:
    """Lines with single blanks, without bars."""
    return [" ".join(line.plain.replace("━", "").split()) for line in drawn]


def cells(**more: Any) -> str:
    """The row of one session in a wide list."""
    return shown(listing([replace(SESSION, **more)], NOW, 500))[1]


def test_a_listed_session_has_its_numbers() -> None:
    """A row has id, name, start, age, times, calls, errors, tokens, cost, users and models."""
    expected = "s-1 support-triage 2026-11-22 12:00:00 UTC 5m 10.00 s 12.50 s 3 0 1,200 $0.050000 ada m-1"
    assert cells() == expected


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({}, "$0.050000"),
        ({"cost_status": "partial", "unpriced_calls": 1}, "≥$0.050000"),
        ({"cost_status": "unknown", "cost_usd": None}, "unknown"),
        ({"calls": 0, "cost_usd": Decimal(0)}, "–"),  # noqa: RUF001
    ],
)
def test_a_cost_says_what_it_is(more: dict[str, Any], cost: str) -> None:
    """A complete cost is an amount, a partial one a lower bound, an unknown one a word; no call, no cost."""
    assert cost in cells(**more).split()


def test_the_unpriced_have_a_column_only_where_there_are_some() -> None:
    """The column UNPRICED appears with the first unpriced call."""
    assert "UNPRICED" not in listing([SESSION], NOW, 500)[0].plain
    assert "UNPRICED" in listing([SESSION, replace(SESSION, unpriced_calls=2)], NOW, 500)[0].plain


def facts(unbilled: int = 0, **more: Any) -> dict[str, str]:
    return {label: value.plain for label, value in head(replace(SESSION, **more), unbilled, NOW)}


def test_the_head_tells_the_session_in_words() -> None:
    """Times say what they mean, tokens name their parts."""
    assert facts() == {
        "name": "support-triage",
        "session": "s-1",
        "user": "ada",
        "started": "2026-11-22 12:00:00 UTC (5m ago)",
        "time": "10.00 s from first start to last end, 12.50 s in LLM calls (p50 4.00 s, p95 5.00 s)",
        "calls": "3",
        "tokens": "1,000 in (400 cached), 200 out (50 reasoning)",
        "cost": "$0.050000",
        "models": "m-1",
    }


def test_the_head_leaves_out_what_there_is_not() -> None:
    """No name, user, model, cost or percentile is made up for a session without calls."""
    empty = facts(
        session_name="", user_ids=[], models=[], calls=0, cost_usd=Decimal(0), cached_input_tokens=0, reasoning_tokens=0
    )
    assert set(empty) == {"session", "started", "time", "calls", "tokens"}
    assert empty["time"] == "10.00 s from first start to last end"


def test_the_head_says_why_a_cost_is_not_complete() -> None:
    """Calls without a price and calls without usage are counted beside the amount, failures in red beside the calls."""
    told = facts(cost_status="partial", unpriced_calls=2, no_usage_calls=1, errors=1)
    assert told["cost"] == "≥$0.050000 (calls without a price: 2, without usage: 1)"
    assert told["calls"] == "3, 1 failed"


def test_refused_calls_do_not_make_a_cost_look_incomplete() -> None:
    """A complete cost has no remark, even where a refused call had no usage."""
    assert facts(1, no_usage_calls=1)["cost"] == "$0.050000"


def test_steps_and_calls_stand_in_the_order_of_their_start() -> None:
    """Among siblings, steps and calls mix by time; a step stands before a call of the same moment."""
    drawn = lines(
        [step("/"), step("/late", 5), step("/early", 1)], [call("/", 3), call("/", 5, span_id="x"), call("/early", 1.5)]
    )
    names = [(line.guide, line.row.path if isinstance(line.row, StepRow) else line.row.span_id) for line in drawn]
    assert names == [
        ("", "/"),
        ("├─ ", "/early"),
        ("│  └─ ", "00000000000005dc"),
        ("├─ ", "0000000000000bb8"),
        ("├─ ", "/late"),
        ("└─ ", "x"),
    ]


def test_rows_without_a_known_parent_hang_on_the_root() -> None:
    """A step or call whose parent is not among the rows is still shown."""
    drawn = lines([step("/"), step("/a/b/c")], [call("/gone")])
    assert [line.guide for line in drawn] == ["", "├─ ", "└─ "]


_paths = st.lists(st.text("abc/", max_size=12).map(normalize_path), max_size=12)


@given(_paths, st.randoms(use_true_random=False))
def test_every_row_is_drawn_once(paths: list[str], order: random.Random) -> None:
    """Whatever the paths and their order, the tree has each step and each call exactly once, parents first."""
    every = sorted({above for path in [*paths, "/"] for above in lineage(path)})
    steps = [step(path, order.random()) for path in every]
    calls = [call(path, number) for number, path in enumerate(paths)]
    order.shuffle(steps)
    drawn = [line.row for line in lines(steps, calls)]
    assert len(drawn) == len(steps) + len(calls)
    assert {id(row) for row in drawn} == {id(row) for row in (*steps, *calls)}
    at = {row.path: place for place, row in enumerate(drawn) if isinstance(row, StepRow)}
    assert all(at[row.parent_path] < at[row.path] for row in steps if row.path != "/")
    assert all(at[row.path] < place for place, row in enumerate(drawn) if isinstance(row, CallRow))


def test_deep_trees_keep_room_for_names() -> None:
    """Below depth six the guides get narrow, and the deepest name is still there in 80 columns."""
    path = "/" + "/".join(f"level{number}" for number in range(12))
    drawn = tree(SESSION, [step(above) for above in lineage(path)], [], 80)
    assert drawn[2].plain.startswith("└ level0")
    assert "└ level11" in drawn[-1].plain
    assert drawn[0].plain.endswith("COST")
    assert max(line.cell_len for line in drawn) <= 80


def test_a_step_has_inclusive_and_own_cost() -> None:
    """COST is of all below, OWN COST of the step's own calls; without calls there is none."""
    rows = [step("/", own_calls=0, own_cost_usd=Decimal(0)), step("/a"), step("/b", calls=0, own_calls=0)]
    drawn = shown(tree(SESSION, rows, [], 200))
    assert drawn[1].endswith("– $0.020000")  # noqa: RUF001
    assert drawn[2].endswith("$0.010000 $0.020000")
    assert drawn[3].endswith("– –")  # noqa: RUF001


def test_a_step_with_unpriced_calls_shows_lower_bounds() -> None:
    """Partial amounts of a step are marked, unknown ones named."""
    partial = step("/", own_unpriced_calls=1, cost_status="partial", unpriced_calls=1)
    unknown = step("/a", own_cost_usd=None, cost_usd=None, cost_status="unknown")
    drawn = shown(tree(SESSION, [partial, unknown], [], 200))
    assert drawn[1].endswith("≥$0.010000 ≥$0.020000")
    assert drawn[2].endswith("unknown unknown")


@pytest.mark.parametrize(
    ("more", "label"),
    [
        ({}, "m-1"),
        ({"response_model": "m-1-2026"}, "m-1-2026"),
        ({"operation": "embeddings"}, "m-1 embeddings"),
        ({"request_model": ""}, "chat"),
        ({"status": "error", "error_type": "429"}, "✗ 429 m-1"),
        ({"status": "error"}, "✗ error m-1"),
    ],
)
def test_a_call_is_named_by_its_model(more: dict[str, Any], label: str) -> None:
    """A leaf shows the model that answered, the operation unless it is a chat, and what failed in front."""
    drawn = tree(SESSION, [step("/")], [call("/", **more)], 200)
    assert drawn[2].plain.startswith(f"└─ {label}  ")


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({}, "$0.010000"),
        ({"cost_usd": None, "cost_status": "unpriced"}, "unpriced"),
        ({"cost_usd": None, "cost_status": "no_usage"}, "no usage"),
    ],
)
def test_a_call_without_a_cost_says_why(more: dict[str, Any], cost: str) -> None:
    """The cost of a call is an amount or the reason why there is none."""
    assert tree(SESSION, [step("/")], [call("/", **more)], 200)[2].plain.endswith(cost)


def test_bars_lie_where_the_rows_lie_in_time() -> None:
    """The timeline spans the session; what lies outside of it, or has no length, still has one cell inside."""
    rows = [
        step("/", wall_seconds=10.0),
        step("/a", 5, wall_seconds=5.0),
        step("/b", -3, wall_seconds=0.0),
        step("/c", 99),
    ]
    drawn = [line.plain for line in tree(SESSION, rows, [], 200)]
    left = drawn[0].index("TIMELINE")
    bars = {line[:left].strip(" ├└─"): line[left : left + 24] for line in drawn[1:]}
    assert bars == {
        "/": "━" * 24,
        "a": " " * 12 + "━" * 12,
        "b": "━" + " " * 23,
        "c": " " * 23 + "━",
    }


def test_time_to_first_chunk_has_a_column_only_for_streams() -> None:
    """TTFT appears with the first streamed call."""
    assert "TTFT" not in tree(SESSION, [step("/")], [call("/")], 300)[0].plain
    streamed = tree(SESSION, [step("/")], [call("/", ttft_seconds=0.25)], 300)
    assert "TTFT" in streamed[0].plain
    assert "250 ms" in streamed[2].plain


def test_a_tree_without_rows_is_its_headline() -> None:
    """No steps, no lines below the titles, no exception."""
    assert len(tree(SESSION, [], [], 80)) == 1


@given(st.integers(60, 200), st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_no_tree_is_wider_than_the_terminal(width: int, names: list[str]) -> None:
    """Hostile and wide names stay inside the terminal, from 60 columns on."""
    path = normalize_path("/".join(names))
    drawn = tree(SESSION, [step(above) for above in lineage(path)], [call(path)], width)
    assert all(line.cell_len <= width for line in drawn)
    assert all("\n" not in line.plain for line in drawn)


def test_an_empty_result_says_so() -> None:
    """No rows are told in words; CSV still has its header."""
    nothing = Table(("x", "y"), ("String", "String"), [])
    assert shown(result(nothing, 80)) == ["no rows"]
    assert to_csv(nothing) == "x,y"


def test_cells_show_values_as_people_write_them() -> None:
    """Times without quotes, decimals without padding, arrays as JSON, truth in lower case, hostile text escaped."""
    values = (START, Decimal("1.500000"), ["é", None], True, "a\x1b[1m\n", b"raw", None)
    table = Table(tuple("abcdefg"), ("",) * 7, [values])
    assert shown(result(table, 200))[1] == '2026-11-22T12:00:00Z 1.5 ["é",null] true a\\x1b[1m\\x0a raw NULL'


def test_long_values_continue_beside_their_names() -> None:
    """In the record view a long value is broken at the terminal's width, and nothing of it is lost."""
    table = Table(("name", "n"), ("String", "UInt8"), [("x" * 200, 7)] * 2)
    wide = Table(
        (*table.columns, *(f"c{number}" for number in range(9))),
        ("",) * 11,
        [(*row, *range(10**9, 10**9 + 9)) for row in table.rows],
    )
    drawn = [line.plain for line in result(wide, 40)]
    assert max(map(len, drawn)) <= 40
    assert sum(line.count("x") for line in drawn) == 400
    assert [line for line in drawn if line.startswith("──")] == [f"── row {n} {'─' * 31}" for n in (1, 2)]


def test_csv_keeps_hostile_text_as_it_is() -> None:
    """CSV is for machines: values are quoted, never rewritten."""
    assert to_csv(Table(("x",), ("String",), [("a\n\x1b,b",)])) == 'x\n"a\n\x1b,b"'
