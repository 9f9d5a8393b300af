"""The engine and the process that it is in: how it ends, and whose its signals are."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
import otel_sessions
from otel_sessions.store.connection import Connection

statements, reached, command = [], threading.Event(), Connection.command
def counted(self, *arguments, **more):
    statements.append(arguments)
    if len(statements) == int(sys.argv[2]):
        reached.set()
    command(self, *arguments, **more)
Connection.command = counted

otel_sessions.configure(store=sys.argv[1])
with otel_sessions.session("s"):
    otel_sessions.configure(store=sys.argv[1]).get_tracer("t").start_span("a").end()
assert reached.wait(60)
print(otel_sessions.shutdown(0))
"""


@pytest.mark.parametrize("statement", [1, 12, 25])
def test_the_end_of_the_program_waits_for_the_statement_that_runs(tmp_path: Path, statement: int) -> None:
    """Out of time in the middle of the migration, the program ends in order; its spans stay on disk."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"chdb://{tmp_path}/store", str(statement)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "pending=2, dropped=0, pending_disk=2" in done.stdout


FORKING = """
import os, sys
from otel_sessions.store import open_store

with open_store(sys.argv[1]) as store:
    store.server_version()
    child = os.fork()
    if not child:
        sys.exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs on_exit")
def test_a_forked_child_ends(tmp_path: Path) -> None:
    """A child of a process in which the engine is open, as gunicorn's with ``--preload``, ends with its own exit status."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, f"chdb://{tmp_path}/store"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


HANDLING = """
import faulthandler, os, signal, sys, threading
from otel_sessions.store import open_store

def handler(number, _):
    print(signal.Signals(number).name)
faulthandler.enable()
for kind in (signal.SIGABRT, signal.SIGTSTP):
    signal.signal(kind, handler)
with open_store(sys.argv[1]) as store:
    thread = threading.Thread(target=store.server_version)
    thread.start()
    thread.join()
    for kind in (signal.SIGABRT, signal.SIGTSTP):
        os.kill(os.getpid(), kind)
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_the_signals_are_the_hosts(tmp_path: Path) -> None:
    """With the engine open, the handlers of the program get their signals, as gunicorn's for a worker that takes too long."""
    done = subprocess.run(
        [sys.executable, "-c", HANDLING, f"chdb://{tmp_path}/store"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["SIGABRT", "SIGTSTP"], done.stderr
    assert done.stderr.startswith("Fatal Python error: Segmentation fault")
    assert done.returncode == -signal.SIGSEGV
