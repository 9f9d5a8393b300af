"""``otel-sessions spool``: what waits on disk can be seen, sent, and buried or revived by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from folder_destination import batch_of
from recorded_spans import call

from otel_sessions.assembly import spool_of
from otel_sessions.base import settings
from otel_sessions.base.group import grouped
from otel_sessions.cli.app import program
from otel_sessions.delivery import Spool
from otel_sessions.store import Store, open_store


@pytest.fixture
def dsn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A local store, since that needs no server, with a spool all the same."""
    dsn = f"chdb://{tmp_path / 'store'}"
    for name, value in {"STORE": dsn, "SPOOL": "on", "SPOOL_DIR": str(tmp_path / "spool")}.items():
        monkeypatch.setenv(f"OTEL_SESSIONS_{name}", value)
    return dsn


@pytest.fixture
def spool(dsn: str) -> Iterator[Spool]:
    place = spool_of(settings.load())
    assert place is not None
    with closing(Spool(place)) as spool:
        yield spool


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["spool", *arguments])
    assert result.exit_code == code, result.output
    return result


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def leave(spool: Spool, token: str = "left", numbers: tuple[int, ...] = (1, 2, 3)) -> None:
    """As a process that ended would."""
    spool.put(batch_of(token, len(numbers), Store.encode(grouped([call(number, path="/") for number in numbers]))))
    spool.release()


def bury(spool: Spool, token: str, reason: str) -> None:
    spool.put(batch_of(token, 2, Store.encode(grouped([call(1), call(2)]))))
    batch = spool.next()
    assert batch is not None
    spool.bury(batch, reason, revivable=False)
    spool.release()


def test_the_status_of_a_spool_that_is_not_there_is_empty(dsn: str, tmp_path: Path) -> None:
    """Asking creates nothing."""
    assert document("status")["spans"] == 0
    assert "0 spans in 0 batches" in run("status").stdout
    assert run("dead", "list").stdout == ""
    assert not (tmp_path / "spool").exists()


def test_the_status_says_what_waits_and_how_to_send_it(spool: Spool) -> None:
    """Numbers as one JSON document, or as text with the next command."""
    leave(spool)
    found = document("status")
    assert (found["spans"], found["batches"], found["orphaned_spans"], found["dead_spans"]) == (3, 1, 3, 0)
    shown = run("status")
    assert "3 spans in 1 batches" in shown.stdout
    assert "spool push" in shown.stderr


def read(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == code, result.output
    return result


def test_readers_say_that_spans_wait(dsn: str, spool: Spool) -> None:
    """The session that is not there yet: one line on stderr with the command, none once it has arrived, none in JSON."""
    note = "3 spans for this store wait on disk, left by ended processes: otel-sessions spool push\n"
    with open_store(dsn) as store:
        store.migrate()
    leave(spool)
    assert read("list").stderr == f"no sessions yet; try: otel-sessions demo\n{note}"
    missing = read("show", "s1", code=1).stderr
    assert missing.startswith(f"{note}error: no session 's1'")
    assert (read("list", "--json").output, note in read("show", "s1", "--json", code=1).output) == ("[]\n", False)
    assert "! spool" in read("doctor").stdout
    run("push")
    (row,) = json.loads(read("list", "--json").stdout)
    assert (read("list").stderr, read("show", row["session_id"]).stderr) == ("", "")
    assert "wait on disk" not in read("doctor").stdout


def test_spans_of_running_processes_need_no_command(dsn: str, spool: Spool) -> None:
    """What a process that runs has put into the spool it will send; what another left beside it is told apart."""
    with open_store(dsn) as store:
        store.migrate()
    spool.put(batch_of("own", 2, Store.encode(grouped([call(1), call(2)]))))
    own = "2 spans for this store wait on disk; running processes send them by themselves: otel-sessions spool status\n"
    assert read("list").stderr.endswith(own)
    assert "✓ spool" in read("doctor").stdout
    place = spool_of(settings.load())
    assert place is not None
    leave(Spool(place))
    both = "5 spans for this store wait on disk, 3 left by ended processes; running ones send the rest by themselves"
    assert read("list").stderr.endswith(f"{both}: otel-sessions spool push\n")
    spool.release()


def test_a_spool_that_cannot_be_read_does_not_break_a_reader(dsn: str, tmp_path: Path) -> None:
    """A folder in the place of the file: list answers as ever, doctor warns and goes on. No spool is made by looking."""
    with open_store(dsn) as store:
        store.migrate()
    read("list")
    assert not (tmp_path / "spool").exists()
    place = spool_of(settings.load())
    assert place is not None
    place.path.mkdir(parents=True)
    assert read("list").stderr == "no sessions yet; try: otel-sessions demo\n"
    shown = read("doctor").stdout
    assert "! spool" in shown
    assert "cannot be read" in shown


def test_push_sends_what_ended_processes_left(dsn: str, spool: Spool) -> None:
    """The spans are in the store afterwards, once, and the spool is empty; pushing again sends nothing."""
    leave(spool)
    assert run("push").stdout == "3 spans sent, 0 left, 0 refused for good\n"
    assert run("push").stdout == "0 spans sent, 0 left, 0 refused for good\n"
    with open_store(dsn) as store:
        assert store.reader().query("SELECT sum(calls) AS n FROM sessions").rows == [(3,)]


def test_push_to_a_store_that_is_away_exits_1_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be sent stays, and the error says why, once: nothing is logged beside it."""
    monkeypatch.setenv("OTEL_SESSIONS_STORE", "http://ann:secret@127.0.0.1:9/otel")
    monkeypatch.setenv("OTEL_SESSIONS_SPOOL_DIR", str(tmp_path))
    place = spool_of(settings.load())
    assert place is not None
    leave(Spool(place))
    result = run("push", code=1)
    assert "0 spans sent, 3 left" in result.stdout
    assert result.stderr == "error: http://ann:***@127.0.0.1:9/otel: no connection: Connection refused\n"
    assert caplog.records == []
    assert "secret" not in result.output
    assert document("status")["spans"] == 3


def test_refused_batches_are_listed_retried_and_dropped(dsn: str, spool: Spool) -> None:
    """With their reason; by id or all at once."""
    for number in range(3):
        bury(spool, f"bad{number}", f"Code: 27. Cannot parse \x1b[2J {number}")
    first, second, third = [row["id"] for row in document("dead", "list")]
    listed = run("dead", "list").stdout
    assert listed.count("2 spans") == 3
    assert "\x1b" not in listed
    assert run("dead", "drop", str(first)).stdout == "2 spans in 1 batches deleted\n"
    assert "1 batches wait again" in run("dead", "retry", str(second)).stdout
    assert run("push").stdout == "2 spans sent, 0 left, 2 refused for good\n"
    assert [row["id"] for row in document("dead", "list")] == [third]
    assert "1 batches wait again" in run("dead", "retry", "--all").stdout
    assert document("status")["dead_spans"] == 0


@pytest.mark.parametrize(("arguments", "code"), [(("7",), 1), ((), 2), (("7", "--all"), 2), (("x",), 2)])
def test_what_is_not_there_cannot_be_retried(dsn: str, arguments: tuple[str, ...], code: int) -> None:
    """An unknown id exits 1; neither ids nor --all, or both, is a wrong command line."""
    run("dead", "retry", *arguments, code=code)
    run("dead", "drop", *arguments, code=code)


def test_a_store_without_spool_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the spool is turned off, the command says how to turn it on."""
    monkeypatch.setenv("OTEL_SESSIONS_STORE", "chdb:///nowhere/store")
    monkeypatch.setenv("OTEL_SESSIONS_SPOOL", "off")
    assert "OTEL_SESSIONS_SPOOL=on" in run("status", code=1).stderr
