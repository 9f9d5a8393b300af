"""A process that ends while the engine in it is at work."""

from __future__ import annotations

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
