"""Several processes and one chDB folder, which only one of them can open: all spans arrive, the others' by way of the spool."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from folder_destination import batch_of
from recorded_spans import call

from otel_sessions.assembly import spool_of
from otel_sessions.base import settings
from otel_sessions.base.group import grouped
from otel_sessions.delivery import Spool
from otel_sessions.store import Store

PRELUDE = """
import os, sys
import otel_sessions
from opentelemetry import trace
dsn = sys.argv[1]
def start(**settings):
    otel_sessions.configure(store=dsn, batch_age_seconds=0.05, **settings)
def make(name, spans):
    with otel_sessions.session(name):
        for number in range(spans):
            trace.get_tracer("tests").start_span(f"{name}-{number}").end()
def told(result):
    print(result.delivered, result.pending_disk, result.pending_memory, result.dropped, flush=True)
def names():
    from otel_sessions.store import open_store
    with open_store(dsn) as store:
        rows = store.reader().query("SELECT SpanName FROM otel_traces WHERE ScopeName = 'tests' ORDER BY SpanName").rows
    return [name for name, in rows]
"""
HOLDER = """
start()
make("holder", 3)
told(otel_sessions.flush(30))
sys.stdin.readline()
told(otel_sessions.shutdown(30))
print(*names())
"""


@pytest.fixture
def dsn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with the spool where it lies by default."""
    monkeypatch.delenv("OTEL_SESSIONS_SPOOL_DIR")
    return f"chdb://{tmp_path / 'store'}"


def process(program: str, dsn: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + textwrap.dedent(program), dsn]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def run(program: str, dsn: str) -> tuple[str, str]:
    """Standard output and standard error of a process that has to end well."""
    started = process(program, dsn)
    output, errors = started.communicate(timeout=90)
    assert started.returncode == 0, errors
    return output, errors


@contextmanager
def holder(dsn: str, ended: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has the folder open during the block; after it, ``ended`` has the lines that it prints at its end."""
    with process(HOLDER, dsn) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "4 0 0 0\n"
        try:
            yield held
        finally:
            output, errors = held.communicate("\n", timeout=90)
        assert held.returncode == 0, errors
        ended += output.splitlines()


def push(dsn: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otel_sessions.cli", "spool", "push", "--store", dsn]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def named(name: str, spans: int) -> list[str]:
    return [f"{name}-{number}" for number in range(spans)]


def test_what_the_second_process_makes_is_sent_by_the_first(dsn: str) -> None:
    """While both run, a flush of the second returns when the first has stored its spans; the warning is one and clear."""
    ended: list[str] = []
    with holder(dsn, ended) as first:
        output, errors = run("start(); make('second', 5); told(otel_sessions.flush(60))", dsn)
    assert output == "6 0 0 0\n"
    [warning] = [line for line in errors.splitlines() if line]
    assert re.search(
        rf"another process \({first.pid}\) holds this chDB folder; only one process can.*in the spool", warning
    )
    assert ended[-1].split() == named("holder", 3) + named("second", 5)


def test_a_second_process_that_ends_at_once_loses_nothing(dsn: str) -> None:
    """It does not wait for the folder: its spans stay in the spool, and whoever opens the folder next sends them."""
    ended: list[str] = []
    with holder(dsn, ended):
        output, _ = run("start(); make('second', 5); told(otel_sessions.shutdown(5))", dsn)
        delivered, on_disk, in_memory, dropped = map(int, output.split())
        assert (delivered + on_disk, in_memory, dropped) == (6, 0, 0)
    assert push(dsn).returncode == 0
    stored, _ = run("print(*names())", dsn)
    assert stored.split() == named("holder", 3) + named("second", 5)


def test_a_folder_that_is_free_again_gets_what_was_made_meanwhile(dsn: str) -> None:
    """Whoever held it could not send it. The process that made it does, also when it ends just then."""
    holding = "from otel_sessions.store import open_store; store = open_store(dsn); print(store.server_version(), flush=True); sys.stdin.readline()"
    making = "start(); make('second', 5); otel_sessions.flush(1); told(otel_sessions.flush(0)); sys.stdin.readline(); told(otel_sessions.shutdown(60))"
    with process(holding, dsn) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with process(making, dsn) as maker:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "0 6 0 0\n"
            holder.communicate("\n", timeout=90)
            output, errors = maker.communicate("\n", timeout=90)
    assert output == "6 0 0 0\n", errors
    stored, _ = run("print(*names())", dsn)
    assert stored.split() == named("second", 5)


def test_pushing_into_a_held_folder_says_who_holds_it(dsn: str) -> None:
    """The command sends nothing, exits 1 and names the process; what waits stays, and is sent when the folder is free."""
    spool = Spool(spool_of(settings.load({"store": dsn})) or pytest.fail("no spool"))
    spool.put(batch_of("left", 1, Store.encode(grouped([call()]))))
    spool.release()
    program = "from otel_sessions.store import open_store; store = open_store(dsn); print(store.server_version(), flush=True); sys.stdin.readline()"
    with process(program, dsn) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline()
        refused = push(dsn)
        reader.communicate("\n", timeout=90)
    assert refused.returncode == 1
    assert f"another process ({reader.pid}) holds this chDB folder" in refused.stderr
    assert "1 spans sent, 0 left" in push(dsn).stdout


def test_the_second_process_goes_on_alone_when_the_first_has_ended(dsn: str) -> None:
    """As soon as the folder is free, the second sends by itself."""
    ended: list[str] = []
    with holder(dsn, ended):
        second = process("start(); make('a', 2); told(otel_sessions.flush(0.1)); sys.stdin.readline(); make('b', 2); told(otel_sessions.flush(60)); print(*names())", dsn)  # fmt: skip
        assert second.stdout is not None
        assert sum(map(int, second.stdout.readline().split())) == 3
    output, errors = second.communicate("\n", timeout=90)
    assert second.returncode == 0, errors
    told, stored = output.splitlines()
    assert told == "6 0 0 0"
    assert stored.split() == sorted(named("a", 2) + named("b", 2) + named("holder", 3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_its_spans_to_the_parent(dsn: str) -> None:
    """The engine hangs in a child that was forked after it was opened: the parent sends what the child made."""
    output, _ = run(
        """
        start()
        make("parent", 2)
        told(otel_sessions.flush(30))
        child = os.fork()
        if not child:
            make("child", 4)
            told(otel_sessions.flush(60))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        told(otel_sessions.shutdown(30))
        print(*names())
        """,
        dsn,
    )
    parent, child, _, stored = output.splitlines()
    assert parent == "3 0 0 0"
    assert child == "5 0 0 0"
    assert stored.split() == named("child", 4) + named("parent", 2)
