"""The tree of a session: steps by their paths, calls as leaves, in the order in which they started."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich.text import Text

from otel_sessions.base.paths import ROOT, segment_name
from otel_sessions.cli import text
from otel_sessions.cli.views.grid import Column, figures, table
from otel_sessions.store import CallRow, SessionRow, StepRow

_ARMS = ("├─ ", "└─ ", "│  ", "   ")
_SHORT_ARMS = ("├ ", "└ ", "│ ", "  ")
_DEEP = 6
_BAR = 24
_ROOMY = 100

Node = StepRow | CallRow


@dataclass(frozen=True, slots=True)
class Line:
    """One step or call, and the guide that is drawn before its name."""

    guide: str
    row: Node


def tree(session: SessionRow, steps: Sequence[StepRow], calls: Sequence[CallRow], width: int) -> list[Text]:
    """Steps with own and inclusive numbers, and below each its ``calls`` (none: steps only)."""
    rows = lines(steps, calls)
    places = text.places(session.cost_usd)
    columns = [
        Column("STEP", [_label(line) for line in rows], right=False, cut=_name_width(rows, width)),
        Column("TIMELINE", [_bar(session, line.row) for line in rows], 20, right=False),
        figures("CALLS", rows, lambda line: _of_step(line.row, "calls"), 70),
        figures("ERR", rows, lambda line: _errors(line.row), 60),
        figures("IN", rows, lambda line: text.count(line.row.input_tokens), 40),
        figures("OUT", rows, lambda line: text.count(line.row.output_tokens), 40),
        figures("LLM", rows, lambda line: _llm(line.row), 10),
        figures("WALL", rows, lambda line: text.seconds(_wall(line.row)), 65),
        figures("OWN COST", rows, lambda line: _own_cost(line.row, places), 50),
        figures("COST", rows, lambda line: _cost(line.row, places), 80),
    ]
    if any(isinstance(line.row, CallRow) and line.row.ttft_seconds is not None for line in rows):
        columns.insert(6, figures("TTFT", rows, lambda line: _first(line.row), 12))
    return table(columns, width)


def _name_width(rows: Sequence[Line], width: int) -> int:
    """Cells that names get at least, guides included: enough for the deepest one, but never the whole line."""
    deepest = max((len(line.guide) for line in rows), default=0)
    return min(max(20 if width < _ROOMY else 34, deepest + 10), max(20, width - 32))


def lines(steps: Sequence[StepRow], calls: Sequence[CallRow] = ()) -> list[Line]:
    """All lines, parents before children. A row whose parent is unknown hangs on the root."""
    known = {step.path for step in steps}
    below: defaultdict[str, list[Node]] = defaultdict(list)
    for step in steps:
        parent = step.parent_path if step.parent_path in known else ROOT
        if step.path != ROOT:
            below[parent or ROOT].append(step)
    for call in calls:
        below[call.path if call.path in known else ROOT].append(call)
    for nodes in below.values():
        nodes.sort(key=_order)
    # Deep trees get narrow guides, or nothing would be left for the names.
    arms = _SHORT_ARMS if max((step.depth for step in steps), default=0) > _DEEP else _ARMS
    return [line for step in steps if step.path == ROOT for line in _walk(Line("", step), "", below, arms)]


def _walk(line: Line, indent: str, below: Mapping[str, Sequence[Node]], arms: Sequence[str]) -> Iterator[Line]:
    yield line
    nodes = below.get(line.row.path, ()) if isinstance(line.row, StepRow) else ()
    for at, node in enumerate(nodes):
        last = at == len(nodes) - 1
        yield from _walk(Line(indent + arms[last], node), indent + arms[2 + last], below, arms)


def _order(node: Node) -> tuple[float, bool, str]:
    return (
        node.started_at.timestamp(),
        isinstance(node, CallRow),
        node.path if isinstance(node, StepRow) else node.span_id,
    )


def _label(line: Line) -> Text:
    row = line.row
    if isinstance(row, StepRow):
        return Text.assemble((line.guide, "dim"), (text.printable(segment_name(row.path)), "bold"))
    model = text.printable(row.response_model or row.request_model or "")
    failure = f"✗ {text.printable(row.error_type or 'error')} " if _failed(row) else ""
    operation = "" if row.operation == "chat" and model else f" {text.printable(row.operation)}"
    return Text.assemble((line.guide, "dim"), (failure, "red"), f"{model}{operation}".lstrip())


def _failed(row: CallRow) -> bool:
    return row.status.lower() == "error"


def _of_step(row: Node, name: str) -> str:
    return text.count(getattr(row, name)) if isinstance(row, StepRow) else ""


def _errors(row: Node) -> Text:
    number = row.errors if isinstance(row, StepRow) else None
    return Text("" if number is None else text.count(number), "red" if number else "dim")


def _wall(row: Node) -> float | None:
    return row.wall_seconds if isinstance(row, StepRow) else row.duration_seconds


def _llm(row: Node) -> str:
    return text.seconds(row.llm_seconds) if isinstance(row, StepRow) else ""


def _first(row: Node) -> str:
    return text.seconds(row.ttft_seconds) if isinstance(row, CallRow) and row.ttft_seconds is not None else ""


def _own_cost(row: Node, places: int) -> Text:
    if isinstance(row, CallRow):
        return Text("")
    return _amount(row.own_cost_usd, row.own_calls, places, partial=row.own_unpriced_calls > 0)


def _cost(row: Node, places: int) -> Text:
    if isinstance(row, CallRow):
        return _call_cost(row, places)
    return _amount(row.cost_usd, row.calls, places, partial=row.cost_status == "partial")


def _call_cost(row: CallRow, places: int) -> Text:
    if row.cost_usd is not None:
        return Text(text.money(row.cost_usd, places))
    # A call that failed has nothing to pay for; one that worked and has no price is worth a look.
    return Text(text.printable(row.cost_status.replace("_", " ")), "dim" if _failed(row) else "yellow")


def _amount(amount: Decimal | None, calls: int, places: int, *, partial: bool) -> Text:
    if amount is None:
        return Text("unknown", "yellow") if calls else Text(text.NOTHING, "dim")
    if not calls:
        return Text(text.NOTHING, "dim")
    return Text(f"≥{text.money(amount, places)}", "yellow") if partial else Text(text.money(amount, places))


def _bar(session: SessionRow, row: Node) -> Text:
    """Where in the session's time the row lies, as a bar."""
    length = max(session.wall_seconds, 1e-9)
    start = (row.started_at - session.started_at).total_seconds() / length
    end = start + (_wall(row) or 0) / length
    first = min(_BAR - 1, max(0, int(start * _BAR)))
    cells = max(1, min(_BAR, round(end * _BAR)) - first)
    failed = isinstance(row, CallRow) and _failed(row)
    mark, style = ("━", "cyan") if isinstance(row, StepRow) else ("─", "red" if failed else "")
    return Text(" " * first + mark * cells, style)
