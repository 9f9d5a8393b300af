"""Sessions as people read them: the list, and the head of a single one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from otel_sessions.cli import text
from otel_sessions.cli.views.grid import Column, figures, table
from otel_sessions.store import SessionRow

_ROOMY = 100


def plain(value: str | None, style: str = "") -> Text:
    """A text from data, made harmless."""
    return Text(text.printable(value), style) if value else Text(text.NOTHING, "dim")


def failed(number: int) -> Text:
    """A number of errors, which is dim at zero."""
    return Text(text.count(number), "red" if number else "dim")


def session_cost(row: SessionRow, places: int) -> Text:
    """The amount, marked as a lower bound or as unknown where calls without a price are in the session."""
    if not row.calls:
        return Text(text.NOTHING, "dim")
    if row.cost_usd is None:
        return Text("unknown", "yellow")
    amount = text.money(row.cost_usd, places)
    return Text(amount) if row.cost_status == "complete" else Text(f"≥{amount}", "yellow")


def listing(rows: Sequence[SessionRow], now: datetime, width: int) -> list[Text]:
    """The table of sessions, ids whole."""
    places = text.places(max((row.cost_usd for row in rows if row.cost_usd is not None), default=None))
    columns = [
        Column("SESSION", [plain(row.session_id, "cyan") for row in rows], right=False, fold=36),
        Column("NAME", [plain(row.session_name) for row in rows], 90, right=False, cut=12 if width < _ROOMY else 20),
        figures("STARTED", rows, lambda row: text.moment(row.started_at), 20),
        figures("AGE", rows, lambda row: text.age(row.started_at, now), 60),
        figures("WALL", rows, lambda row: text.seconds(row.wall_seconds), 40),
        figures("LLM", rows, lambda row: text.seconds(row.llm_seconds), 15),
        figures("CALLS", rows, lambda row: text.count(row.calls), 70),
        figures("ERR", rows, lambda row: failed(row.errors), 50),
        figures("TOKENS", rows, lambda row: text.count(row.total_tokens), 30),
        figures("COST", rows, lambda row: session_cost(row, places), 80),
        Column("USER", [plain(", ".join(row.user_ids)) for row in rows], 10, right=False, cut=8),
        Column("MODELS", [plain(", ".join(row.models)) for row in rows], 5, right=False, cut=16),
    ]
    if any(row.unpriced_calls for row in rows):
        columns.insert(10, figures("UNPRICED", rows, lambda row: failed(row.unpriced_calls), 35))
    return table(columns, width)


def head(row: SessionRow, unbilled: int, now: datetime) -> list[tuple[str, Text]]:
    """One session, ``unbilled`` of its calls not billed, in a few lines with labels: what it was, and its totals."""
    facts = [
        ("name", plain(row.session_name, "bold")),
        ("session", plain(row.session_id, "cyan")),
        ("user", plain(", ".join(row.user_ids))),
        ("started", Text(f"{text.moment(row.started_at)} ({text.ago(row.started_at, now)})")),
        ("time", Text(_times(row))),
        ("calls", _calls(row)),
        ("tokens", Text(_tokens(row))),
        ("cost", _cost(row, unbilled)),
        ("models", plain(", ".join(row.models))),
    ]
    return [(label, value) for label, value in facts if value.plain != text.NOTHING]


def _times(row: SessionRow) -> str:
    wall = f"{text.seconds(row.wall_seconds)} from first start to last end"
    if not row.calls:
        return wall
    p50, p95 = text.seconds(row.latency_p50_seconds), text.seconds(row.latency_p95_seconds)
    spread = f" (p50 {p50}, p95 {p95})" if row.calls > 1 else ""
    return f"{wall}, {text.seconds(row.llm_seconds)} in LLM calls{spread}"


def _calls(row: SessionRow) -> Text:
    failures = (", ", (f"{text.count(row.errors)} failed", "red")) if row.errors else ()
    return Text.assemble(text.count(row.calls), *failures)


def _tokens(row: SessionRow) -> str:
    cached = f" ({text.count(row.cached_input_tokens)} cached)" if row.cached_input_tokens else ""
    reasoning = f" ({text.count(row.reasoning_tokens)} reasoning)" if row.reasoning_tokens else ""
    return f"{text.count(row.input_tokens)} in{cached}, {text.count(row.output_tokens)} out{reasoning}"


def _cost(row: SessionRow, unbilled: int) -> Text:
    cost = session_cost(row, text.places(row.cost_usd))
    gaps = [(row.unpriced_calls, "without a price"), (row.no_usage_calls - unbilled, "without usage")]
    if row.cost_status != "complete" and any(number for number, _ in gaps):
        cost.append(f" (calls {', '.join(f'{what}: {text.count(number)}' for number, what in gaps if number)})")
    return cost
