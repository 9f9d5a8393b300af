"""Reads the views. Each method is one file in ``queries/``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from typing import Any, TypeVar

from otel_sessions.base.errors import NotFoundError, SettingError, StoreError
from otel_sessions.base.price import CONDITIONS, PRICES, PriceRow
from otel_sessions.store import instants
from otel_sessions.store.connection import Connection
from otel_sessions.store.records import AttributeRow, CallRow, Outcome, SessionRow, StepRow, Table, UnpricedRow
from otel_sessions.store.settling import Settling

ORDERS = ("started_at", "cost_usd", "wall_seconds", "llm_seconds", "calls", "errors", "total_tokens")
STATUSES = ("ok", "error")
_PRICE_FIELDS = (*CONDITIONS, *PRICES, "origin", "source")
_NO_CODE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`|--[^\n]*|/\*.*?\*/", re.DOTALL)
_REFUSED = (
    (re.compile(";"), "one statement at a time; leave out what follows the semicolon."),
    (
        re.compile(r"(?i)\b(insert\s+into|into\s+outfile)\b"),
        "only reading is allowed here: INSERT and INTO OUTFILE write.",
    ),
    (re.compile(r"(?i)\bformat\s+(?!asc\b|desc\b)\w+$"), "leave out FORMAT; --json and --csv give those forms."),
)

_Row = TypeVar("_Row", SessionRow, StepRow, CallRow)
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)


class Reader:
    """What the views say. Raises :class:`StoreError`; :class:`SchemaError` where the schema is missing."""

    def __init__(self, connection: Connection, settling: Settling) -> None:
        self._connection = connection
        self._settling = settling

    def sessions(  # noqa: PLR0913 - each filter is a keyword
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        name: str | None = None,
        user_id: str | None = None,
        status: str | None = None,
        order_by: str = "started_at",
        limit: int = 50,
    ) -> list[SessionRow]:
        """Whole sessions that start in [``since``, ``until``), the largest ``order_by`` first, unknown costs last.

        ``status`` is ``ok`` (no call failed) or ``error``; ``order_by`` one of :data:`ORDERS`. Naive times are UTC.
        """
        if order_by not in ORDERS:
            raise SettingError("order_by", order_by, f"one of {', '.join(ORDERS)}", "Leave it out for the newest.")
        if status is not None and status not in STATUSES:
            raise SettingError("status", status, "ok or error", "Leave it out for both.")
        parameters = {
            "since": _instant(since, _FIRST),
            "until": _instant(until, _LAST),
            "name": name,
            "user_id": user_id,
            "status": status,
            "order_by": order_by,
            "limit": limit,
        }
        picked = [row[0] for row in self._connection.query(_sql("pick"), parameters).result_rows]
        rows = {row.session_id: row for row in self._rows(SessionRow, "sessions", {"session_ids": picked})}
        return [rows[session_id] for session_id in picked if session_id in rows]

    def session(self, session_id: str) -> SessionRow:
        """The session with that id. Raises :class:`NotFoundError` with the ids that resemble it."""
        rows = self._rows(SessionRow, "session", {"session_id": session_id})
        if not rows:
            raise NotFoundError(session_id, self._closest(session_id))
        return rows[0]

    def steps(self, session_id: str) -> list[StepRow]:
        """The session's paths in the order of its tree: each before those below it; none for an unknown id."""
        # Segment by segment: '/a/b' comes before '/a b', although a slash sorts after a blank. Planning the same in SQL
        # takes a millisecond.
        return sorted(self._rows(StepRow, "steps", {"session_id": session_id}), key=lambda step: step.path.split("/"))

    def calls(self, session_id: str) -> list[CallRow]:
        """The session's LLM calls by start; none for an unknown id."""
        return self._rows(CallRow, "calls", {"session_id": session_id})

    def unbilled_calls(self, session_id: str) -> int:
        """How many of the session's calls are not billed (refused, never arrived, moderations); 0 for an unknown id."""
        self._settling.before_reading()
        found = self._connection.query(_sql("unbilled_calls"), {"session_id": session_id}).result_rows
        return int(found[0][0]) if found else 0

    def calls_outside_sessions(self, hours: int) -> int:
        """How many LLM calls of the last ``hours`` belong to no session."""
        self._settling.before_reading()
        found = self._connection.query(_sql("calls_outside_sessions"), {"hours": hours}).result_rows
        return int(found[0][0]) if found else 0

    def prices(self, name: str = "") -> list[PriceRow]:
        """The price book's rows whose ``provider/model`` contains ``name``, by name and condition."""
        result = self._connection.query(_sql("prices"), {"name": name})
        return [PriceRow(**dict(zip(_PRICE_FIELDS, row, strict=True))) for row in result.result_rows]

    def unpriced_models(self) -> list[UnpricedRow]:
        """Models with calls that have no price, most calls first."""
        result = self._connection.query(_sql("unpriced_models"))
        return [UnpricedRow(*row) for row in result.result_rows]

    def names_to_price(self) -> list[tuple[str, str]]:
        """Provider and model of everything that the price book should know."""
        return [(provider, model) for provider, model in self._connection.query(_sql("names_to_price")).result_rows]

    def explain(self, span_id: str) -> tuple[Outcome | None, list[AttributeRow]]:
        """What became of the span (16 hex digits), and which of its attributes fed which column; nothing if unknown."""
        self._settling.before_reading()
        outcomes = self._connection.query(_sql("outcome"), {"span_id": span_id}).result_rows
        result = self._connection.query(_sql("explain"), {"span_id": span_id})
        return Outcome(*outcomes[0]) if outcomes else None, [AttributeRow(*row) for row in result.result_rows]

    def query(self, sql: str, limit: int | None = None, *, nanoseconds: bool = False) -> Table:
        """The result of any SELECT, at most ``limit`` rows of it. What would write is refused.

        Times are datetimes and end at microseconds; with ``nanoseconds`` those that go on are ISO 8601 text.
        """
        statement = _readable(sql)
        self._settling.before_reading()
        result = self._connection.query_readonly(statement, instants.TICKS if nanoseconds else None)
        if not result.column_names:
            return self._empty(statement)
        rows = [tuple(row) for row in islice(result.result_rows, limit)]
        if nanoseconds:
            kinds = [instants.exact(kind) for kind in result.column_types]
            rows = [tuple(kind(value) for kind, value in zip(kinds, row, strict=True)) for row in rows]
        return Table(tuple(result.column_names), tuple(kind.name for kind in result.column_types), rows)

    def _empty(self, statement: str) -> Table:
        # chDB sends nothing at all for a result without rows.
        try:
            described = self._connection.query_readonly(f"DESCRIBE TABLE ({statement})").result_rows
        except StoreError:
            described = []
        return Table(tuple(row[0] for row in described), tuple(row[1] for row in described), [])

    def _closest(self, session_id: str) -> tuple[str, ...]:
        result = self._connection.query(_sql("closest"), {"session_id": session_id})
        return tuple(row[0] for row in result.result_rows)

    def _rows(self, kind: type[_Row], query: str, parameters: Mapping[str, Any]) -> list[_Row]:
        self._settling.before_reading()
        result = self._connection.query(_sql(query), parameters)
        return [kind(*row) for row in result.result_rows]


def _readable(sql: str) -> str:
    """``sql`` without its end mark. Raises :class:`StoreError` for what the engine's read-only mode lets pass.

    That is: several statements, of which chDB mixes the results; files that are written; another output format.
    """
    statement = sql.strip().rstrip(";").strip()
    if not statement:
        raise StoreError("the query is empty. Try: SELECT * FROM sessions LIMIT 10")
    bare = _NO_CODE.sub(" ", statement)
    for pattern, refusal in _REFUSED:
        if pattern.search(bare):
            raise StoreError(refusal)
    return statement


def _instant(given: datetime | None, default: datetime) -> str:
    moment = default if given is None else given if given.tzinfo else given.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


@lru_cache
def _sql(name: str) -> str:
    return files("otel_sessions.store").joinpath("queries", f"{name}.sql").read_text("utf-8")
