"""Delivery in the servers that people run: gunicorn, uvicorn, celery. Every span arrives once."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from folder_destination import Folder, named

PROLOGUE = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from folder_destination import Folder
from otel_sessions.base.exits import at_exit
from otel_sessions.delivery import Limits
folder = Folder(Path({folder!r}))
delivery, make = folder.deliver(Limits(10_000, 100, 30))
at_exit(delivery.shutdown)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@contextmanager
def serving(folder: Folder, module: str, *command: str, code: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A server that imports ``module`` as ``program``; it is told to end in order after the block, and ends with ``code``."""
    prologue = PROLOGUE.format(tests=str(Path(__file__).parent), folder=str(folder.path))
    (folder.path / "program.py").write_text(prologue + textwrap.dedent(module))
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == code, output
    finally:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str], times: int) -> None:
    """Send so many requests to the server, which says its address."""
    assert process.stdout is not None
    url = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
    # Whatever else it says has to be read, or the server would wait for someone to read it.
    threading.Thread(target=process.stdout.read, daemon=True).start()
    for number in range(times):
        with urllib.request.urlopen(f"{url}/{number}", timeout=30) as response:
            assert response.status == 200


@pytest.mark.parametrize("preload", [True, False])
def test_gunicorn_with_four_workers(folder: Folder, *, preload: bool) -> None:
    """Configured before or after the fork: the spans of all workers are delivered when the server ends."""
    pytest.importorskip("gunicorn")
    module = """
        def app(environ, start_response):
            make("request" + environ["PATH_INFO"].replace("/", "-"), 1)
            start_response("200 OK", [])
            return [str(os.getpid()).encode()]
        """
    command = ["gunicorn", "-w", "4", "-b", "127.0.0.1:0", *(["--preload"] if preload else []), "program:app"]
    with serving(folder, module, *command) as process:
        ask(process, 40)
    assert folder.names() == sorted(f"request-{number}-0" for number in range(40))


def test_uvicorn(folder: Folder) -> None:
    """What the last requests made is delivered, although uvicorn dies by the SIGTERM that it raises again when it is through."""
    module = """
        async def app(scope, receive, send):
            if scope["type"] == "http":
                make("request" + scope["path"].replace("/", "-"), 1)
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body"})
        """
    with serving(folder, module, "uvicorn", "program:app", "--port", "0", code=-signal.SIGTERM) as process:
        ask(process, 10)
    assert folder.names() == sorted(f"request-{number}-0" for number in range(10))


def test_celery_with_a_prefork_pool(folder: Folder) -> None:
    """Spans of tasks are delivered when the worker ends, although celery's children leave with os._exit."""
    pytest.importorskip("celery")
    for name in ("queue", "processed"):
        (folder.path / name).mkdir()
    module = """
        from celery import Celery
        folders = {"data_folder_in": "queue", "data_folder_out": "queue", "processed_folder": "processed"}
        app = Celery("program", broker="filesystem://", broker_transport_options=folders)
        @app.task
        def work(name):
            make(name, 5)
            (folder.path / (name + ".done")).touch()
        """
    command = ("celery", "-A", "program", "worker", "--pool=prefork", "-c", "2", "--without-gossip", "--without-mingle")
    with serving(folder, module, *command) as process:
        assert process.stdout is not None
        threading.Thread(target=process.stdout.read, daemon=True).start()
        send = "import program\nfor number in range(8): program.work.delay(f'task{number}')"
        subprocess.run([sys.executable, "-c", send], cwd=folder.path, check=True, timeout=60)
        deadline, ticking = time.monotonic() + 60, threading.Event()
        while len([*folder.path.glob("*.done")]) < 8:
            assert time.monotonic() < deadline
            ticking.wait(0.05)
    assert folder.names() == sorted(name for task in range(8) for name in named(f"task{task}", 5))
