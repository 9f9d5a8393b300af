"""Programs under gevent: nothing hangs, every greenlet keeps its session, a subprocess makes no call a second time."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_provider import serving

pytest.importorskip("gevent")

PATCH = "import gevent.monkey; gevent.monkey.patch_all()"
CONFIGURE = "import otel_sessions, sys; otel_sessions.configure(store=sys.argv[1])"
CALLS = """
import os, sys, gevent, openai, otel_sessions
def work(number):
    with otel_sessions.session(f"s{number}"):
        client = openai.OpenAI(base_url=sys.argv[2] + "/v1", api_key="k", max_retries=0)
        said = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
        client.chat.completions.create(**said)
        assert otel_sessions.current_session().id == f"s{number}"
        for _ in client.chat.completions.create(**said, stream=True, stream_options={"include_usage": True}):
            pass
gevent.joinall([gevent.spawn(work, number) for number in range(4)], raise_error=True)
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with serving() as url:
        yield url


def run(*parts: str, arguments: tuple[str, ...] = (), folder: Path) -> str:
    """What the program of ``parts`` printed. It ends in order, and no thread or greenlet of it fails."""
    program = "\n".join(textwrap.dedent(part) for part in parts)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "OTEL_SESSIONS_SPOOL_DIR": str(folder / "spool")},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("parts", [(PATCH, CONFIGURE), (CONFIGURE, PATCH)], ids=["patched first", "patched late"])
def test_each_greenlet_has_its_session_and_all_is_delivered_at_the_end(
    tmp_path: Path, provider: str, parts: tuple[str, str]
) -> None:
    """Calls of greenlets side by side, made by the SDK for the first time in the process, are recorded in their sessions."""
    store = f"chdb://{tmp_path}/store"
    run(*parts, CALLS, arguments=(store, provider), folder=tmp_path)
    ask = """
        import sys
        from otel_sessions.store import open_store
        with open_store(sys.argv[1]) as store:
            for row in store.reader().query("SELECT session_id, count() FROM session_calls GROUP BY ALL ORDER BY ALL").rows:
                print(*row)
        """
    assert run(ask, arguments=(store,), folder=tmp_path) == "".join(f"s{number} 2\n" for number in range(4))


def test_a_subprocess_runs_no_greenlet_of_its_host(tmp_path: Path) -> None:
    """A process under gevent forks in Python: until the child is another program, it is this one, and must not go on with its work."""
    program = """
        import os, subprocess, gevent
        parent, strangers = os.getpid(), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        def work():
            while True:
                if os.getpid() != parent:
                    os.write(strangers, b"1")
                    os._exit(1)
                gevent.sleep(0)
        worker = gevent.spawn(work)
        for _ in range(5):
            assert subprocess.check_output(["echo", "hi"]) == b"hi\\n"
        worker.kill()
        """
    run(PATCH, CONFIGURE, program, arguments=("none", str(tmp_path / "strangers")), folder=tmp_path)
    assert (tmp_path / "strangers").read_bytes() == b""


def test_a_forked_child_is_another_instance(tmp_path: Path) -> None:
    """Its resource has its own id, as the SDK gives it without gevent."""
    program = """
        import os
        from opentelemetry import trace
        provider = trace.get_tracer_provider()
        ids = [provider.resource.attributes["service.instance.id"]]
        if os.fork() == 0:
            ids += [provider.resource.attributes["service.instance.id"]]
            os._exit(0 if ids[0] != ids[1] else 1)
        assert os.wait()[1] == 0
        """
    run(PATCH, CONFIGURE, program, arguments=("none",), folder=tmp_path)


def test_greenlets_go_on_while_the_engine_works(tmp_path: Path) -> None:
    """What is sent is sent in threads: a destination that keeps the machine in native code stops no greenlet."""
    program = """
        import ctypes, gevent
        from opentelemetry.sdk.trace import TracerProvider
        from otel_sessions.delivery import Delivery
        native, begun, answered = ctypes.CDLL(None), [], []
        reading, writing = os.pipe()
        def send(spans, token):
            data = ctypes.create_string_buffer(1)
            begun.append(token)
            answered.append(native.read(reading, data, 1))  # until the greenlet below has written
        delivery = Delivery("pipe", send)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(delivery)
        provider.get_tracer("test").start_span("a").end()
        flush = gevent.spawn(delivery.flush, 30)
        while not begun:
            gevent.sleep(0)
        native.write(writing, b"x", 1)
        assert flush.get().delivered == 1
        assert answered == [1]
        delivery.shutdown()
        """
    run(PATCH, "import os", program, folder=tmp_path)
