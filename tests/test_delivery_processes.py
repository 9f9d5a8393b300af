"""Delivery and the life of processes: kills, exits, forks. Every span that is due arrives once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from folder_destination import Folder, named

from otel_sessions.base.values import FlushResult
from otel_sessions.delivery import Limits, Spool, push

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

PROLOGUE = """
import atexit, multiprocessing, os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from folder_destination import Folder
from otel_sessions.base.exits import at_exit
from otel_sessions.delivery import Limits
folder = Folder(Path({folder!r}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def started(folder: Folder, program: str) -> subprocess.Popen[str]:
    prologue = PROLOGUE.format(tests=str(Path(__file__).parent), folder=str(folder.path))
    path = folder.path / "program.py"
    path.write_text(prologue + textwrap.dedent(program))
    with (folder.path / "stderr").open("w") as errors:
        return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=errors, text=True)


def run(folder: Folder, program: str, code: int = 0) -> None:
    """Run ``program`` to its end, which has to be the expected one, and without a crash of any thread."""
    process = started(folder, program)
    process.communicate(timeout=60)
    errors = (folder.path / "stderr").read_text()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "Fatal" not in errors


def recovered(folder: Folder) -> FlushResult:
    """What the next process that starts delivers."""
    result = push(folder.place(), folder.send)
    with closing(Spool(folder.place())) as spool:
        assert spool.status().spans == 0
    return result


def test_a_killed_process_loses_only_the_last_moment(folder: Folder) -> None:
    """After kill -9, whatever had ended longer ago than the batch age arrives with the next start, once."""
    folder.is_away = True
    process = started(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 100, 1.0))
        number = 0
        while True:
            make(f"s{number}", 1)
            print(number, time.monotonic(), flush=True)
            number += 1
            time.sleep(0.002)
        """,
    )
    assert process.stdout is not None
    ended: list[tuple[int, float]] = []
    stop_after = random.uniform(1.2, 2.5)
    for line in process.stdout:
        number, at = line.split()
        ended.append((int(number), float(at)))
        if ended[-1][1] - ended[0][1] > stop_after:
            break
    process.kill()
    killed = time.monotonic()
    process.communicate(timeout=30)
    folder.is_away = False
    recovered(folder)
    arrived = folder.names()
    assert len(arrived) == len(set(arrived))
    due = {f"s{number}-0" for number, at in ended if killed - at > 1.0}
    assert due
    assert due <= set(arrived)


@pytest.mark.parametrize("away", [True, False])
def test_an_orderly_end_needs_no_next_process(folder: Folder, *, away: bool) -> None:
    """At the end of a program everything is delivered, or, without a destination, everything is on disk."""
    folder.is_away = away
    run(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 100, 30))
        at_exit(delivery.shutdown)
        make("a", 10)
        """,
    )
    assert folder.names() == ([] if away else named("a", 10))
    folder.is_away = False
    recovered(folder)
    assert folder.names() == named("a", 10)


def test_spans_that_end_while_the_interpreter_ends_are_delivered(folder: Folder) -> None:
    """When no thread can be started any more, the shutdown itself saves what is there for the next process."""
    run(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 100, 30))
        at_exit(delivery.shutdown)
        atexit.register(lambda: make("late", 3))
        """,
    )
    recovered(folder)
    assert folder.names() == named("late", 3)


def test_daemon_threads_do_not_disturb_the_end(folder: Folder) -> None:
    """Spans from daemon threads that run into the end of the interpreter neither hang nor crash it."""
    run(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 100, 0.05))
        at_exit(delivery.shutdown)
        def work():
            while True:
                make("d", 1)
                time.sleep(0.0001)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        make("main", 5)
        """,
    )
    recovered(folder)
    assert [name for name in folder.names() if name.startswith("main")] == named("main", 5)


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_ends_that_run_no_code_of_ours_lose_only_the_last_moment(folder: Folder, end: str) -> None:
    """os._exit and a SIGTERM without a handler are like a kill: what is older than the batch age is on disk."""
    code = 3 if "_exit" in end else -signal.SIGTERM
    folder.is_away = True
    run(
        folder,
        f"""
        delivery, make = folder.deliver(Limits(10_000, 100, 0.2))
        at_exit(delivery.shutdown)
        make("a", 10)
        while delivery.result().pending_disk < 10:
            time.sleep(0.01)
        make("b", 1)
        {end}
        """,
        code,
    )
    folder.is_away = False
    recovered(folder)
    assert set(named("a", 10)) <= set(folder.names())


def test_sigterm_with_a_handler_that_exits_loses_nothing(folder: Folder) -> None:
    """Servers that end in order on SIGTERM deliver everything."""
    run(
        folder,
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        delivery, make = folder.deliver(Limits(10_000, 100, 30))
        at_exit(delivery.shutdown)
        make("a", 10)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
        """,
    )
    assert folder.names() == named("a", 10)


def test_prefork_before_the_first_span(folder: Folder) -> None:
    """Configured in the parent, used in the children, as gunicorn does with preload: all spans arrive once."""
    run(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 100, 0.05))
        at_exit(delivery.shutdown)
        children = []
        for child in range(4):
            pid = os.fork()
            if pid == 0:
                make(f"child{child}", 20)
                sys.exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        """,
    )
    assert folder.names() == sorted(name for child in range(4) for name in named(f"child{child}", 20))


@pytest.mark.parametrize("away", [True, False])
def test_forks_in_the_middle_of_everything(folder: Folder, *, away: bool) -> None:
    """Forks while batches are written and sent neither hang a child nor lose or double a span of the parent's."""
    folder.is_away = away
    run(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 20, 0.02))
        at_exit(delivery.shutdown)
        def work(name):
            for part in range(40):
                make(f"{name}.{part}", 10)
                time.sleep(0.002)
        threads = [threading.Thread(target=work, args=(f"parent{n}",)) for n in range(2)]
        for thread in threads:
            thread.start()
        children = []
        for child in range(8):
            time.sleep(0.01)
            pid = os.fork()
            if pid == 0:
                make(f"child{child}", 20)
                sys.exit(0)
            children.append(pid)
        for thread in threads:
            thread.join()
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        """,
    )
    folder.is_away = False
    recovered(folder)
    names = [f"parent{thread}.{part}" for thread in range(2) for part in range(40)]
    expected = [name for part in names for name in named(part, 10)]
    expected += [name for child in range(8) for name in named(f"child{child}", 20)]
    assert folder.names() == sorted(expected)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_deliver_before_they_leave(folder: Folder, method: str) -> None:
    """Children that leave with os._exit after their target still deliver, however they were started."""
    run(
        folder,
        f"""
        def target(name):
            if {method != "fork"}:
                global delivery, make
                delivery, make = folder.deliver(Limits(10_000, 100, 30))
                at_exit(delivery.shutdown)
            make(name, 10)
        if {method == "fork"}:
            delivery, make = folder.deliver(Limits(10_000, 100, 30))
            at_exit(delivery.shutdown)
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            children = [context.Process(target=target, args=(f"child{{n}}",)) for n in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
        """,
    )
    assert folder.names() == sorted(name for child in range(3) for name in named(f"child{child}", 10))


def test_a_pool_that_is_terminated_loses_only_the_last_moment(folder: Folder) -> None:
    """multiprocessing.Pool ends its workers with SIGTERM: what is older than the batch age arrives."""
    run(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 100, 0.1))
        at_exit(delivery.shutdown)
        def task(number):
            make(f"task{number}", 5)
            delivery.flush(10)
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(3) as pool:
                pool.map(task, range(12))
        """,
    )
    recovered(folder)
    assert folder.names() == sorted(name for task in range(12) for name in named(f"task{task}", 5))


def test_many_processes_and_one_outage(folder: Folder) -> None:
    """Eight processes, half of them killed during an outage: one survivor sends what all have written."""
    folder.is_away = True
    program = """
        delivery, make = folder.deliver(Limits(10_000, 100, 0.05))
        at_exit(delivery.shutdown)
        name = f"p{os.getpid()}"
        make(name, 30)
        while delivery.result().pending_disk < 30:
            time.sleep(0.01)
        print(name, flush=True)
        sys.stdin.readline()
        """
    prologue = PROLOGUE.format(tests=str(Path(__file__).parent), folder=str(folder.path))
    path = folder.path / "program.py"
    path.write_text(prologue + textwrap.dedent(program))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, str(path)], **pipes) for _ in range(4)]
    names = [process.stdout.readline().strip() for process in processes if process.stdout]
    for process in processes[:2]:
        process.kill()
        process.communicate(timeout=30)
    folder.is_away = False
    for process in processes[2:]:
        process.communicate("\n", timeout=30)
        assert process.returncode == 0
    recovered(folder)
    assert folder.names() == sorted(name for process in names for name in named(process, 30))


def test_a_frozen_process_goes_on_where_it_was(folder: Folder) -> None:
    """Stopped and continued, as on AWS Lambda, a process sends what it had, and nobody took it away meanwhile."""
    folder.is_away = True
    process = started(
        folder,
        """
        delivery, make = folder.deliver(Limits(10_000, 100, 0.05))
        make("a", 10)
        while delivery.result().pending_disk < 10:
            time.sleep(0.01)
        print("ready", flush=True)
        print(delivery.flush(30).delivered, flush=True)
        """,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGSTOP)
    folder.is_away = False
    assert push(folder.place(), folder.send).recovered == 0
    os.kill(process.pid, signal.SIGCONT)
    assert process.stdout.readline() == "10\n"
    process.communicate(timeout=30)
    assert folder.names() == named("a", 10)


def test_a_clock_that_is_set_back_changes_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages are measured with the monotonic clock; a wall clock that jumps back an hour neither delays nor doubles."""
    delivery, make = folder.deliver(Limits(10_000, 100, 0.02))
    folder.is_away = True
    make("a", 10)
    wall = time.time
    delivery.flush(0.3)
    monkeypatch.setattr(time, "time", lambda: wall() - 3600)
    make("b", 10)
    folder.is_away = False
    assert delivery.flush(20).delivered == 20
    assert folder.names() == named("a", 10) + named("b", 10)
    delivery.shutdown()


def test_configuring_again_in_one_process_goes_on(folder: Folder) -> None:
    """A notebook that makes a new delivery sends what the one before left on disk."""
    folder.is_away = True
    for cell in range(3):
        delivery, make = folder.deliver(Limits(10_000, 100, 30))
        make(f"cell{cell}", 4)
        delivery.shutdown(5)
    folder.is_away = False
    last, make = folder.deliver(Limits(10_000, 100, 30))
    make("last", 4)
    assert last.flush(20).delivered == 4
    last.shutdown()
    recovered(folder)
    names = ["cell0", "cell1", "cell2", "last"]
    assert folder.names() == sorted(name for cell in names for name in named(cell, 4))
