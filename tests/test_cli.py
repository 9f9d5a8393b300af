"""The command line, on a real store: exit codes, documents, tables that fit, hostile data."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from rich.cells import cell_len

from otel_sessions.base import names
from otel_sessions.base.paths import session_trace_id, step_span_id
from otel_sessions.cli.app import program
from otel_sessions.store import open_store

NOW = datetime.now(UTC).replace(microsecond=0)
TRIAGE = "0199f3a2-7b1c-7d3e-9a55-0c1d2e3f4a5b"
OLD = "0199e000-0000-7000-8000-000000000001"
BUSY = "0199f3a2-7b1c-7d3e-9a55-0c1d2e3f4a5c"
EVIL = "evil\x1b[2J\u202eid"
ESCAPES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


def call(session_id: str, path: str, at: float, **more: Any) -> ReadableSpan:
    """A call of 100 ms that started ``at`` seconds after NOW - 1 h, cost 0.25 $ unless told otherwise."""
    attributes: dict[str, Any] = {
        names.SESSION_ID: session_id,
        names.SESSION_PATH: path,
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: "gpt-6-luna",
        names.RESPONSE_MODEL: "gpt-6-luna-2026-08-12",
        names.INPUT_TOKENS: 1000,
        names.OUTPUT_TOKENS: 100,
        names.COST: "0.25",
        names.COST_STATUS: "priced",
        **more,
    }
    failed = names.ERROR_TYPE in attributes
    start = int((NOW - timedelta(hours=1) + timedelta(seconds=at)).timestamp() * 1e9)
    trace_id = session_trace_id(session_id)
    flags = TraceFlags(TraceFlags.SAMPLED)
    return ReadableSpan(
        name="chat gpt-6-luna",
        context=SpanContext(trace_id, step_span_id(session_id, f"{path}{at}"), is_remote=False, trace_flags=flags),
        parent=SpanContext(trace_id, step_span_id(session_id, path), is_remote=False, trace_flags=flags),
        resource=Resource({"service.name": "tests"}),
        attributes={key: value for key, value in attributes.items() if value is not None},
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR if failed else StatusCode.OK),
        start_time=start,
        end_time=start + 100_000_000,
    )


UNKNOWN: Mapping[str, Any] = {names.COST: None, names.COST_STATUS: None}
REFUSED = {
    **UNKNOWN,
    names.INPUT_TOKENS: None,
    names.OUTPUT_TOKENS: None,
    names.ERROR_TYPE: "429",
    names.HTTP_STATUS: 429,
}
SPANS = [
    call(TRIAGE, "/triage/classify", 0, **{names.SESSION_NAME: "support-triage", names.USER_ID: "ada"}),
    call(TRIAGE, "/triage/research/hand%2Fbook", 1, **REFUSED),
    call(TRIAGE, "/triage/research/hand%2Fbook", 2, **{names.TIME_TO_FIRST_CHUNK: 0.04}),
    call(TRIAGE, "/triage", 3),
    call(OLD, "/", -2 * 86_400, **{names.SESSION_NAME: "nightly", names.COST: "1.5"}),
    call(OLD, "/", -2 * 86_400 + 1, **UNKNOWN),
    *(call(BUSY, "/", 10 + number, **{names.USER_ID: "bob", names.COST: "0.000001"}) for number in range(60)),
    call(EVIL, "/\x1b[31mred/[bold]", 100, **{names.SESSION_NAME: "[red]\x1b]0;own\x07", names.ERROR_TYPE: "\x9bboom"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = f"chdb://{tmp_path_factory.mktemp('cli') / 'store'}"
    with open_store(made) as store:
        store.migrate()
        store.insert(SPANS, "once")
    return made


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def invoke(*arguments: str, columns: int | None = None, stdin: str | None = None) -> Result:
    environment = {"COLUMNS": str(columns)} if columns else {}
    return CliRunner().invoke(program, arguments, env=environment, input=stdin, obj=None)


def rows(*arguments: str) -> list[dict[str, Any]]:
    result = invoke(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    parsed: list[dict[str, Any]] = json.loads(result.stdout, parse_float=Decimal)
    return parsed


def test_list_has_the_newest_first(dsn: str) -> None:
    """Without options, sessions come by their start, the newest first."""
    assert [row["session_id"] for row in rows("list", "--store", dsn)] == [EVIL, BUSY, TRIAGE, OLD]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "1d"], [EVIL, BUSY, TRIAGE]),
        (["--until", "1d"], [OLD]),
        (["--since", (NOW - timedelta(hours=1, seconds=-5)).isoformat()], [EVIL, BUSY]),
        (["--name", "nightly"], [OLD]),
        (["--user", "bob"], [BUSY]),
        (["--order", "cost"], [OLD, TRIAGE, EVIL, BUSY]),
        (["--order", "tokens", "--limit", "1"], [BUSY]),
        (["--name", "nobody"], []),
    ],
)
def test_list_filters_and_orders(dsn: str, options: list[str], expected: list[str]) -> None:
    """Each option of ``list`` narrows or orders the sessions."""
    assert [row["session_id"] for row in rows("list", "--store", dsn, *options)] == expected


def test_list_json_is_one_array_of_whole_rows(dsn: str) -> None:
    """``list --json`` has the view's columns, money exactly, times in UTC, and NULL as null."""
    [row] = rows("list", "--store", dsn, "--name", "support-triage")
    assert row["cost_usd"] == Decimal("0.75")
    assert (row["calls"], row["errors"], row["user_ids"], row["cost_status"]) == (4, 1, ["ada"], "complete")
    assert datetime.fromisoformat(row["started_at"]) == NOW - timedelta(hours=1)
    assert row["wall_seconds"] == Decimal("3.1")


@pytest.mark.parametrize("width", [80, 120, 200])
def test_tables_fit_the_width_and_keep_ids(dsn: str, width: int) -> None:
    """``list`` and ``show`` stay inside the terminal, and ids of UUID length stay in one piece."""
    listed = invoke("--store", dsn, "list", columns=width)
    shown = invoke("--store", dsn, "show", TRIAGE, columns=width)
    assert max(cell_len(line) for line in (listed.stdout + shown.stdout).splitlines()) <= width
    assert TRIAGE in listed.stdout
    assert TRIAGE in shown.stdout


def test_a_pipe_gets_everything(dsn: str) -> None:
    """Without a terminal no column is left out and nothing is cut."""
    listed = invoke("--store", dsn, "list").stdout
    for title in ("STARTED", "WALL", "LLM", "TOKENS", "USER", "MODELS"):
        assert title in listed
    assert "…" not in listed


def test_partial_and_unknown_costs_are_marked(dsn: str) -> None:
    """A session with an unpriced call shows its amount as a lower bound and says how many calls have no price."""
    assert "≥$1.5000" in invoke("--store", dsn, "list").stdout
    assert "≥$1.5000 (calls without a price: 1)" in invoke("--store", dsn, "show", OLD).stdout


def test_refused_calls_are_not_among_those_that_make_a_cost_a_lower_bound(tmp_path: Path) -> None:
    """Of three calls without usage two were refused: one may have cost something."""
    where = f"chdb://{tmp_path / 'store'}"
    unknown = {**UNKNOWN, names.INPUT_TOKENS: None, names.OUTPUT_TOKENS: None}
    refused = {**unknown, names.ERROR_TYPE: "401", "http.response.status_code": 401}
    with open_store(where) as store:
        store.migrate()
        store.insert([call("s", "/", at, **more) for at, more in enumerate([{}, unknown, refused, refused])], "batch")
    assert "≥$0.2500 (calls without usage: 1)\n" in invoke("--store", where, "show", "s").stdout


def test_show_draws_the_tree(dsn: str) -> None:
    """Steps with their numbers, inclusive and own, calls as leaves, intermediate paths, ``%2F`` as a slash."""
    shown = invoke("--store", dsn, "show", TRIAGE, columns=150).stdout
    tree = shown[shown.index("STEP") :]
    assert [" ".join(line.replace("━", "").replace("─ ", " ").split()) for line in tree.splitlines()] == [
        "STEP TIMELINE CALLS ERR IN OUT TTFT LLM WALL OWN COST COST",
        "/ 4 1 3,000 300 400 ms 3.10 s – $0.7500",  # noqa: RUF001
        "└ triage 4 1 3,000 300 400 ms 3.10 s $0.2500 $0.7500",
        "├ classify 1 0 1,000 100 100 ms 100 ms $0.2500 $0.2500",
        "│ └ gpt-6-luna-2026-08-12 1,000 100 100 ms $0.2500",
        "├ research 2 1 1,000 100 200 ms 1.10 s – $0.2500",  # noqa: RUF001
        "│ └ hand/book 2 1 1,000 100 200 ms 1.10 s $0.2500 $0.2500",
        "│ ├ ✗ 429 gpt-6-luna-2026-08-12 ─ – – 100 ms no usage",  # noqa: RUF001
        "│ └ gpt-6-luna-2026-08-12 1,000 100 40 ms 100 ms $0.2500",
        "└ gpt-6-luna-2026-08-12 1,000 100 100 ms $0.2500",
    ]


def test_show_json_has_session_steps_and_calls(dsn: str) -> None:
    """``show --json`` is one object with the session, its steps and its calls."""
    result = invoke("--store", dsn, "show", TRIAGE, "--json")
    document = json.loads(result.stdout)
    assert document["session"]["session_id"] == TRIAGE
    assert {step["path"]: (step["own_calls"], step["calls"]) for step in document["steps"]} == {
        "/": (0, 4),
        "/triage": (1, 4),
        "/triage/classify": (1, 1),
        "/triage/research": (0, 2),
        "/triage/research/hand%2Fbook": (2, 2),
    }
    assert [entry["status"] for entry in document["calls"]].count("error") == 1


def test_the_beginning_of_an_id_is_not_the_id(dsn: str) -> None:
    """Another session than the one that was asked for is never shown: the error names it, first of all."""
    result = invoke("--store", dsn, "show", OLD[:9])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Closest: {OLD}" in result.stderr


def test_an_unknown_id_exits_1_with_the_closest(dsn: str) -> None:
    """``show`` of an id that is not there says which ids resemble it, on stderr, and exits 1."""
    result = invoke("--store", dsn, "show", TRIAGE[:-1] + "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: no session '{TRIAGE[:-1]}x'.")
    assert TRIAGE in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_id_that_resembles_nothing_exits_1_with_the_newest(dsn: str) -> None:
    """Where no id is close, the newest ones are named instead."""
    result = invoke("--store", dsn, "show", "nothing-like-any-of-them")
    assert (result.exit_code, result.stdout) == (1, "")
    assert BUSY in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_many_calls_are_left_out_unless_asked_for(dsn: str) -> None:
    """A session of 60 calls shows its steps, and its calls with --calls."""
    short = invoke("--store", dsn, "show", BUSY)
    assert "60 calls; --calls shows each" in short.stderr
    assert short.stdout.count("─ gpt-6-luna-2026-08-12") == 0
    assert invoke("--store", dsn, "show", BUSY, "--calls").stdout.count("─ gpt-6-luna-2026-08-12") == 60
    assert "─ gpt-6-luna-2026-08-12" not in invoke("--store", dsn, "show", TRIAGE, "--no-calls").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("show", EVIL),
        ("show", f"{EVIL}x"),
        ("sql", "SELECT session_id, session_name FROM sessions"),
        ("sql", "SELECT session_id, path, error_type FROM session_calls", "--json"),
        ("list", "--json"),
        ("sql", "SELECT nothing_\x1b[31m FROM sessions"),
    ],
)
def test_hostile_data_never_reaches_the_terminal(dsn: str, arguments: tuple[str, ...]) -> None:
    """Control and bidirectional characters from data come out escaped, and markup stays text."""
    result = invoke("--store", dsn, *arguments)
    assert not ESCAPES.search(result.stdout + result.stderr)
    if arguments == ("show", EVIL):
        assert "[red]\\x1b]0;own\\x07" in result.stdout
        assert "\\x1b[31mred" in result.stdout
        assert "✗ \\x9bboom" in result.stdout


def test_sql_prints_a_table(dsn: str) -> None:
    """Columns aligned, numbers to the right, NULL shown as such."""
    result = invoke(
        "--store", dsn, "sql", "SELECT if(n = 1, 'a', 'bb') AS x, n, NULL AS z FROM (SELECT arrayJoin([1, 22]) AS n)"
    )
    assert result.stdout.splitlines() == ["x    n     z", "a    1  NULL", "bb  22  NULL"]


def test_sql_prints_records_where_a_table_would_not_fit(dsn: str) -> None:
    """Too many columns for the terminal are shown below each other."""
    columns = ", ".join(f"'value {number}' AS column_{number}" for number in range(20))
    shown = invoke("--store", dsn, "sql", f"SELECT {columns}", columns=80).stdout.splitlines()
    assert shown[0].startswith("── row 1 ─")
    assert shown[1] == "column_0   value 0"
    assert len(shown) == 21


def test_sql_json_is_an_array_of_objects(dsn: str) -> None:
    """``sql --json`` keeps every digit and every type that JSON has."""
    query = "SELECT toDecimal64('0.10', 4) AS d, toUInt128('340282366920938463463374607431768211454') AS big, [1, NULL] AS a, now64(3, 'UTC') AS t"
    [row] = rows("--store", dsn, "sql", query)
    assert (row["d"], row["big"], row["a"]) == (Decimal("0.1"), 2**128 - 2, [1, None])
    assert datetime.fromisoformat(row["t"]).tzinfo == UTC


def test_sql_json_has_the_nanoseconds(dsn: str) -> None:
    """A DateTime64(9) keeps its nine digits, in arrays, tuples and maps too; NULL stays null."""
    at = "toDateTime64('2026-11-22 14:50:23.123456789', 9, 'Europe/Paris')"
    query = f"SELECT {at} AS t, [({at}, 1)] AS nested, map('a', {at}) AS m, toNullable({at}) AS n, CAST(NULL, 'Nullable(DateTime64(9))') AS z, toDateTime64(5.5, 9, 'UTC') AS short, fromUnixTimestamp64Nano(-1000000001, 'UTC') AS early"
    [row] = rows("--store", dsn, "sql", query)
    text = "2026-11-22T13:50:23.123456789Z"
    assert row == {
        "t": text,
        "nested": [[text, 1]],
        "m": {"a": text},
        "n": text,
        "z": None,
        "short": "1970-01-01T00:00:05.500000Z",
        "early": "1969-12-31T23:59:58.999999999Z",
    }


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("SELECT started_at, ended_at FROM sessions", ["--json"]),
        ("SELECT first_started_at, last_started_at FROM session_names", ["--csv"]),
        ("SELECT first_seen, last_seen FROM unpriced_models", []),
    ],
)
def test_sql_writes_the_times_of_views_as_times(dsn: str, query: str, form: list[str]) -> None:
    """What a view passes on from a rollup is ISO 8601 in UTC too, and no number."""
    result = invoke("--store", dsn, "sql", query, *form)
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", result.stdout)
    assert not re.search(r"\d{10}", result.stdout)


def test_sql_has_the_nanoseconds_of_aggregates(dsn: str) -> None:
    """All nine digits inside SimpleAggregateFunction and Nested; dates and seconds there are as elsewhere."""
    at = "toDateTime64('2026-11-22 14:50:23.123456789', 9, 'UTC')"
    query = (
        f"SELECT CAST([{at}], 'SimpleAggregateFunction(groupArrayArray, Array(DateTime64(9)))') AS array, "
        f"CAST(({at}, 'x'), 'SimpleAggregateFunction(max, Tuple(DateTime64(9), String))') AS tuple, "
        f"CAST([({at}, 1)], 'Nested(at DateTime64(9), n UInt8)') AS nested, "
        f"CAST({at}, 'SimpleAggregateFunction(min, Date)') AS day, "
        f"CAST({at}, 'SimpleAggregateFunction(min, DateTime(\\'UTC\\'))') AS second"
    )
    [row] = rows("--store", dsn, "sql", query)
    text = "2026-11-22T14:50:23.123456789Z"
    assert row == {
        "array": [text],
        "tuple": [text, "x"],
        "nested": [{"at": text, "n": 1}],
        "day": "2026-11-22",
        "second": "2026-11-22T14:50:23Z",
    }


def test_sql_csv_is_csv(dsn: str) -> None:
    """``sql --csv`` has a header, quotes where needed, and empty fields for NULL."""
    result = invoke("--store", dsn, "sql", "--csv", "SELECT 'a,\"b' AS x, NULL AS y")
    assert list(csv.reader(io.StringIO(result.stdout))) == [["x", "y"], ['a,"b', ""]]


def test_sql_reads_standard_input_and_limits(dsn: str) -> None:
    """``-`` takes the query from stdin; --limit bounds the rows."""
    result = invoke("--store", dsn, "sql", "-", "--limit", "2", "--csv", stdin="SELECT number FROM numbers(9)")
    assert result.stdout.split() == ["number", "0", "1"]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE otel_traces",
        "SELECT 1; DROP TABLE otel_traces",
        "INSERT INTO otel_traces SELECT * FROM otel_traces",
        "INSERT INTO FUNCTION file('{file}') SELECT 1",
        "SELECT 1 INTO OUTFILE '{file}'",
    ],
)
def test_sql_may_only_read(dsn: str, statement: str, tmp_path: Path) -> None:
    """A statement that writes, be it a file, is refused and changes nothing."""
    file = tmp_path / "out.csv"
    result = invoke("--store", dsn, "sql", statement.format(file=file))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert not file.exists()
    assert rows("--store", dsn, "sql", "SELECT count() AS n FROM otel_traces") == [{"n": len(SPANS)}]


def test_sql_may_have_semicolons_in_texts_and_at_the_end(dsn: str) -> None:
    """Only a second statement is refused."""
    query = "SELECT ';' AS a, 'it\\'s; INSERT INTO' AS `b;` /* ; */ -- ;\n ORDER BY a;"
    assert rows("--store", dsn, "sql", query) == [{"a": ";", "b;": "it's; INSERT INTO"}]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("sql", "SELECT nothing FROM sessions"), 1, "nothing"),
        (("sql", ""), 2, "empty"),
        (("sql", "SELECT 1; SELECT 'a', 2"), 1, "one statement at a time"),
        (("sql", "SELECT 1 FORMAT JSON"), 1, "--json"),
        (("sql", "SELECT 1", "--json", "--csv"), 2, "exclude each other"),
        (("list", "--since", "yesterday"), 2, "neither an age"),
        (("list", "--order", "colour"), 2, "--order"),
        (("list", "--limit", "0"), 2, "--limit"),
        (("list", "--store", "mysql://x"), 2, "http(s)://user:pass@host:port/db"),
        (("list", "--store", "none"), 2, "a store to read from"),
        (("lst",), 2, "lst"),
        (("show",), 2, "ID"),
    ],
)
def test_errors_have_one_line_and_a_code(dsn: str, arguments: tuple[str, ...], code: int, message: str) -> None:
    """A wrong command line exits 2, a store that cannot answer 1; stdout stays empty and there is no traceback."""
    result = invoke("--store", dsn, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_store_that_was_never_made_is_not_made_by_reading(tmp_path: Path) -> None:
    """Reading a local store that does not exist says what to do, and leaves the disk alone."""
    result = invoke("--store", f"chdb://{tmp_path / 'nowhere'}", "list")
    assert result.exit_code == 1
    assert "no store" in result.stderr
    assert "demo" in result.stderr
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", [("list",), ("sql", "SELECT 1"), ("migrate", "--dry-run"), ("doctor",)])
@pytest.mark.parametrize("content", [[], ["notes.txt", "tmp"]])
def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path, content: list[str], command: tuple[str, ...]) -> None:
    """Reading a folder without a store in it says so, as for one that does not exist, and makes no file in it."""
    for name in content:
        (tmp_path / name).touch()
    result = invoke("--store", f"chdb://{tmp_path}", *command)
    if command == ("doctor",):
        assert "does not exist yet" in result.stdout
    else:
        assert (result.exit_code, result.stderr.startswith(f"error: there is no store in {tmp_path} yet.")) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == content


def test_the_environment_names_the_store(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SESSIONS_STORE is used where --store is not given, and --store of a command wins over that of the program."""
    monkeypatch.setenv("OTEL_SESSIONS_STORE", dsn)
    assert len(rows("list")) == 4
    assert len(rows("--store", "chdb:///nowhere/at/all", "list", "--store", dsn)) == 4


def test_passwords_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be reached is named without its password."""
    result = invoke("--store", "http://ada:hunter2@127.0.0.1:9/otel", "list")
    assert result.exit_code == 1
    assert "ada:***@127.0.0.1:9" in result.stderr
    assert "hunter2" not in result.stderr


def test_migrate_applies_once(tmp_path: Path) -> None:
    """``migrate`` names each file it applies; ``--dry-run`` only says what it would do; again, it does nothing."""
    where = ("--store", f"chdb://{tmp_path / 'new'}")
    first = invoke("migrate", *where)
    assert "applying 001_" in first.stdout
    assert invoke("migrate", *where).stdout.splitlines() == [f"up to date: {where[1]}"]
    assert invoke("migrate", "--dry-run", *where).stdout.splitlines() == [f"up to date: {where[1]}"]


def test_doctor_passes_on_a_good_store(dsn: str) -> None:
    """``doctor`` finds versions, settings, store and schema in order and exits 0."""
    found = {check["name"]: check for check in rows("--store", dsn, "doctor")}
    assert {name: found[name]["state"] for name in ("otel-sessions", "settings", "store", "schema")} == {
        "otel-sessions": "ok", "settings": "ok", "store": "ok", "schema": "ok",
    }  # fmt: skip
    assert "ClickHouse" in found["store"]["found"]
    assert "openai" in found["provider SDKs"]["found"]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"OTEL_SESSIONS_BATCH_SIZE": "0"}, "settings"),
        ({"OTEL_SESSIONS_STORE": "http://127.0.0.1:9/otel"}, "store"),
        ({"OTEL_SDK_DISABLED": "true"}, "sdk"),
    ],
)
def test_doctor_fails_with_the_fix(environment: Mapping[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is marked as failed, with what mends it, and the exit code is 1."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    result = invoke("doctor", "--json")
    failed = [check for check in json.loads(result.stdout) if check["state"] == "fail"]
    assert result.exit_code == 1
    assert [check["name"] for check in failed] == [name]
    assert failed[0]["fix"]


def test_doctor_is_readable(dsn: str) -> None:
    """For people, each check is a line with a mark, folded inside the terminal."""
    lines = invoke("--store", dsn, "doctor", columns=80).stdout.splitlines()
    assert all(cell_len(line) <= 80 for line in lines)
    assert any(line.startswith("✓ store") for line in lines)


def test_help_names_every_command() -> None:
    """``--help`` lists the commands, and works without any store."""
    shown = invoke("--help")
    assert shown.exit_code == 0
    for command in ("demo", "list", "show", "sql", "migrate", "doctor"):
        assert re.search(rf"^  {command} ", shown.stdout, re.MULTILINE)


def program_at(terminal_width: int, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a real terminal of that width receives."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = f'stty cols {terminal_width} rows 50 && exec "$0" -m otel_sessions.cli "$@"'
        os.execvpe("/bin/sh", ["/bin/sh", "-c", command, sys.executable, *arguments], dict(environment))
    received = b""
    output = select.poll()  # and not select(), which stops at 1,024 file descriptors
    output.register(terminal, select.POLLIN)
    while output.poll(60_000):
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:
            break
        if not chunk:
            break
        received += chunk
    os.waitpid(pid, 0)
    os.close(terminal)
    return received.decode()


def test_a_terminal_gets_colour_and_the_next_step(dsn: str) -> None:
    """On a terminal the tree is coloured and followed by what to type next; NO_COLOR takes the colour away."""
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    seen = program_at(100, ["--store", dsn, "show", TRIAGE], environment)
    assert "\x1b[" in seen
    assert f"otel-sessions --store {dsn} list" in seen
    plain = program_at(100, ["--store", dsn, "show", TRIAGE], {**environment, "NO_COLOR": "1"})
    assert "\x1b[" not in plain
    assert max(cell_len(line) for line in plain[: plain.index("Next:")].splitlines()) <= 100


def test_a_pipe_gets_no_escape_and_an_ascii_pipe_gets_ascii(dsn: str) -> None:
    """Piped output is plain text; an encoding that lacks a character gets an escape instead of an exception."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_sessions.cli", "--store", dsn, "show", TRIAGE],
        capture_output=True, check=True, timeout=60, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"\x1b" not in done.stdout
    assert b"`- classify" not in done.stdout
    assert b"|- classify" in done.stdout
    assert done.stderr == b""


def test_a_closed_pipe_is_no_error(dsn: str) -> None:
    """``otel-sessions … | head -1`` ends quietly."""
    command = (
        f"{sys.executable} -m otel_sessions.cli --store {dsn} sql --csv 'SELECT number FROM numbers(200000)' | head -1"
    )
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("number\n", "")
