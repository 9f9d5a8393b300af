"""What the system refuses and what interrupts: threads, memory, files, signals. Nothing raises, and the accounts agree."""

from __future__ import annotations

import json
import logging
import pkgutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import httpx2
import pytest
from folder_destination import Folder, encode, named
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions import SessionSpanProcessor, capture, current_session, session, step
from otel_sessions.base import names
from otel_sessions.base.context import add_listener, remove_listener
from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.base.group import SpanGroup
from otel_sessions.base.guard import guarded
from otel_sessions.base.settings import Settings
from otel_sessions.base.values import Session
from otel_sessions.capture import reaper
from otel_sessions.delivery import Delivery, Limits, push
from otel_sessions.delivery import sender as sending

SMALL = Limits(10_000, 100, 0.05)
URL = "https://api.openai.com/v1/chat/completions"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
ANSWER = {"id": "c1", "model": "gpt-4o", "choices": [], "usage": USAGE}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Ctrl-C, so many seconds from now."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refuse(*_: object) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_log_handlers_that_raise_raise_into_nobody() -> None:
    """What a handler of the host's makes of our warning is not its request's business."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError(record)

    handler = Broken()
    logging.getLogger("otel_sessions").addHandler(handler)
    try:
        with guarded("broken-handler"):
            raise OSError
    finally:
        logging.getLogger("otel_sessions").removeHandler(handler)


def test_without_threads_a_stream_is_recorded_whole(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its usage does not depend on the thread that ends what the host drops, which the next stream starts."""

    class Body(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield json.dumps(ANSWER).encode()

    client = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Body())))
    monkeypatch.setattr(reaper, "runs", False)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        client.post(URL, json=CHAT)
    client.post(URL, json=CHAT)
    assert "otel-sessions-reaper" in {thread.name for thread in threading.enumerate()}
    spans = exporter.get_finished_spans()
    assert [(span.attributes or {}).get(names.INPUT_TOKENS) for span in spans] == [100, 100]


@pytest.mark.parametrize("allowed", [0, 1])
def test_delivery_starts_when_threads_can_be_started_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """Also where one of the two had started: the spans wait, and the flush that can start the other sends them."""
    delivery, make = folder.deliver(SMALL)
    start, left = threading.Thread.start, [allowed]

    def few(thread: threading.Thread) -> None:
        if not left[0]:
            refuse()
        left[0] -= 1
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", few)
        make("a", 20)
        assert delivery.flush(0.1).pending == 20
    result = delivery.flush(5)
    assert (result.delivered, result.pending, result.dropped) == (20, 0, 0)
    assert folder.names() == named("a", 20)
    delivery.shutdown()


def test_a_signal_handler_may_end_spans_while_the_threads_start(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler runs in the thread that it interrupts, and must not wait for what that is at."""
    delivery, make = folder.deliver(SMALL)
    start = threading.Thread.start
    host = threading.Thread(target=make, args=("host", 1), daemon=True)

    def interrupted(thread: threading.Thread) -> None:
        if thread is not host:
            make("handler", 1)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    host.start()
    host.join(2)
    assert not host.is_alive()
    assert delivery.flush(5).pending == 0
    assert folder.names() == ["handler-0", "handler-0", "host-0"]
    delivery.shutdown()


@pytest.mark.parametrize("where", ["batcher.grouped", "outbox.Outbox.next", "spool.lz4.frame.compress"])
def test_want_of_memory_ends_no_thread(folder: Folder, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What a thread of ours had in hand when memory ran out is tried again, in bytes, on disk and on its way."""
    failed = fail_once(monkeypatch, f"otel_sessions.delivery.{where}")
    delivery, make = folder.deliver(SMALL)
    make("a", 20)
    result = delivery.flush(10)
    assert failed.is_set()
    assert (result.delivered, result.pending, result.dropped) == (20, 0, 0)
    assert folder.names() == named("a", 20)
    delivery.shutdown()


def fail_once(monkeypatch: pytest.MonkeyPatch, name: str) -> threading.Event:
    """The first call of what has this name finds no memory; returns what says that it happened."""
    real, failed = pkgutil.resolve_name(name), threading.Event()

    def reluctant(*given: Any, **named: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        return real(*given, **named)

    monkeypatch.setattr(name, reluctant)
    return failed


def test_a_span_that_memory_does_not_suffice_for_is_not_called_unencodable(folder: Folder) -> None:
    """It is encoded when there is memory again."""
    failures = iter([MemoryError, MemoryError])

    def reluctant(groups: Sequence[SpanGroup]) -> bytes:
        for failure in failures:
            raise failure
        return encode(groups)

    delivery, make = folder.deliver(SMALL, encode=reluctant)
    make("a", 1)
    assert delivery.flush(10).delivered == 1
    delivery.shutdown()


def test_an_interrupted_flush_leaves_no_haste_behind(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a flush waits, retries follow each other quickly; after Ctrl-C nobody waits any more."""
    monkeypatch.setattr(sending, "_FIRST_RETRY_SECONDS", 0.02)
    sent: list[float] = []

    def send(*_: object) -> NoReturn:
        sent.append(time.monotonic())
        raise StoreUnavailableError("away")

    delivery = Delivery("here", send, limits=SMALL, encode=encode, spool=folder.place())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(delivery)
    provider.get_tracer("tests").start_span("a").end()
    with interrupted_after(0.5):
        delivery.flush(20)
    sent.clear()
    time.sleep(0.5)
    assert len(sent) <= 3
    delivery.shutdown(0.1)
    assert delivery.result().pending_disk == 1


@pytest.mark.parametrize("at_start", [True, False])
def test_an_interrupted_block_is_left(*, at_start: bool) -> None:
    """Ctrl-C while a session opens or closes: what comes after is in the session that was active before, or in none."""

    def interrupt(position: Session, opened: bool) -> None:  # noqa: FBT001 - a listener's signature
        if position.path == "/a" and opened is at_start:
            raise KeyboardInterrupt

    add_listener(interrupt)
    try:
        with session("outer"):
            with pytest.raises(KeyboardInterrupt), session("inner", path="/a"):
                pass
            assert (found := current_session()) is not None
            assert found.id == "outer"
        assert current_session() is None
    finally:
        remove_listener(interrupt)


def test_steps_go_on_wherever_their_bookkeeping_is_interrupted(provider: TracerProvider) -> None:
    """Ctrl-C, which Python delivers with a call, at each call in it: later steps are exported, and nothing piles up."""
    memory = InMemorySpanExporter()
    processor = SessionSpanProcessor(tracer_provider=provider)
    provider.add_span_processor(processor)
    provider.add_span_processor(SimpleSpanProcessor(memory))

    def interrupted_at(call: int) -> bool:
        passed = 0

        def count(frame: FrameType, event: str, _: object) -> None:
            nonlocal passed
            passed += event in {"call", "c_return"} and frame.f_code.co_name in {"_post", "_drain", "_apply_and_export"}
            if passed == call:
                sys.setprofile(None)
                raise KeyboardInterrupt

        before = sys.getprofile()
        try:
            sys.setprofile(count)
            with session(f"run-{call}"), step("a"):
                pass
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(before)
        return False

    call = 1
    while interrupted_at(call):
        call += 1
        assert current_session() is None
    assert call > 20
    processor.force_flush()
    memory.clear()
    with session("after"), step("a"):
        pass
    assert sorted(span.name for span in memory.get_finished_spans()) == ["a", "session"]


def test_what_a_signal_handler_raises_inside_our_code_reaches_the_host(exporter: InMemorySpanExporter) -> None:
    """A timeout that a program sets itself with an alarm may come in the middle of anything, ours included."""

    class Late(Exception):  # noqa: N818 - a name of the program's
        pass

    def late(*_: object) -> NoReturn:
        raise Late

    def ring(_: Session, opened: bool) -> None:  # noqa: FBT001 - a listener's signature
        if opened:
            signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, late)
    add_listener(ring)
    try:
        with pytest.raises(Late), session("run-1"):
            pytest.fail("the block was entered")
        assert current_session() is None
    finally:
        remove_listener(ring)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupted_end_of_a_call_costs_no_span(provider: TracerProvider) -> None:
    """Ctrl-C while its answer is being looked at, here in the program's own redaction: the call is recorded."""
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))

    def redact(text: str) -> str:
        if text == "hi":
            raise KeyboardInterrupt
        return text

    said = {**ANSWER, "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=said))
    capture.instrument(provider, settings=Settings(capture_content=True, redact=redact))
    try:
        with pytest.raises(KeyboardInterrupt):
            httpx2.Client(transport=transport).post(URL, json=CHAT)
        assert [span.name for span in memory.get_finished_spans()] == ["chat gpt-4o"]
    finally:
        capture.uninstrument()


def test_a_spool_that_is_deleted_is_counted_as_lost(folder: Folder) -> None:
    """Writing on would succeed, into a file that no process finds: the accounts would call it safe on disk."""
    folder.is_away = True
    delivery, make = folder.deliver(SMALL)
    make("a", 20)
    deadline = time.monotonic() + 5
    while delivery.result().pending_disk < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for path in folder.place().path.parent.iterdir():
        path.unlink()
    make("b", 20)
    delivery.shutdown(1)
    result = delivery.result()
    assert result.pending_disk + result.dropped == 40
    folder.is_away = False
    assert push(folder.place(), folder.send).recovered == result.pending_disk >= 20
    assert len(folder.names()) == result.pending_disk
    assert set(result.dropped_reasons) <= {"spool_damaged"}


PROGRAM = """
import os, signal, sys, threading, time
import httpx2, otel_sessions
from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.store import connection, open_store

def answer(_):
    return httpx2.Response(200, json={"id": "c1", "model": "gpt-4o", "choices": []})

client = httpx2.Client(transport=httpx2.MockTransport(answer))
def ask():
    client.post("https://api.openai.com/v1/chat/completions", json={"model": "gpt-4o", "messages": []})
"""


def program(text: str, *arguments: str) -> tuple[str, str]:
    """Output and errors of a Python of its own: chDB allows one folder per process."""
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(text), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip(), done.stderr.strip()


def test_a_shutdown_that_was_interrupted_goes_on_at_exit(tmp_path: Path) -> None:
    """Ctrl-C while it waits for the store: at exit the spans go to the spool, and the accounts say so."""
    out, err = program(
        """
        from otel_sessions.assembly import StoreSender
        StoreSender.send = lambda self, blocks, token: time.sleep(30)
        otel_sessions.configure(store="http://127.0.0.1:1/otel", spool_dir=sys.argv[1], instrument_http=False)
        ask()
        def interrupt(*_): raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try: otel_sessions.shutdown(20)
        except KeyboardInterrupt: print("interrupted")
        print(otel_sessions.shutdown(0.1))
        otel_sessions.configure(store="http://127.0.0.1:1/otel", spool_dir=sys.argv[1], instrument_http=False)
        ask()
        print(otel_sessions.shutdown(0.1))
        """,
        str(tmp_path),
    )
    first, *shown = out.splitlines()
    assert first == "interrupted", err
    assert [("pending=1" in line, "pending_disk=1" in line) for line in shown] == [(True, True)] * 2


def test_a_full_disk_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    """The engine would leave files empty without an error, and never open the folder again."""
    out, err = program(
        """
        connection._ROOM_BYTES = 10**18
        try: open_store(sys.argv[1]).migrate()
        except StoreUnavailableError as error: print("no room" in str(error))
        """,
        f"chdb://{tmp_path}/db",
    )
    assert out == "True", err
    assert not (tmp_path / "db" / "metadata").exists()


def test_a_folder_without_the_right_to_write_is_named(tmp_path: Path) -> None:
    """And the engine, which would tell the host's stderr at each attempt, is not asked."""
    out, err = program(
        """
        os.access = lambda path, mode: False
        try: open_store(sys.argv[1]).server_version()
        except StoreUnavailableError as error: print(error)
        """,
        f"chdb://{tmp_path}/db",
    )
    assert (f"{tmp_path}/db" in out, "no right to write" in out, err) == (True, True, "")


def test_a_process_without_files_to_open_has_spans_that_wait(tmp_path: Path) -> None:
    """What the system refuses the engine says nothing about the batch, which is not refused for good."""
    out, err = program(
        """
        import resource
        store = open_store(sys.argv[1])
        store.server_version()
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try: store.migrate()
        except StoreUnavailableError as error: print("Too many open files" in str(error))
        """,
        f"chdb://{tmp_path}/db",
    )
    assert out == "True", err
