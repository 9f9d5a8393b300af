"""Delivery to a real engine over connections that break: every span counts once, in every table."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from breaking_proxy import AFTER, BEFORE, MIDDLE, BreakingProxy, at_random, breaking
from clickhouse_server import Server, running
from opentelemetry.sdk.trace import TracerProvider

from otel_sessions.assembly import StoreSender, spool_of
from otel_sessions.base import names, settings
from otel_sessions.base.errors import StoreError
from otel_sessions.base.settings import Settings
from otel_sessions.delivery import Delivery, Limits, push
from otel_sessions.delivery.batch import Destination
from otel_sessions.store import Store, open_store

CALL: dict[str, str | int] = {
    names.OPERATION: "chat",
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-4o",
    names.INPUT_TOKENS: 10,
    names.OUTPUT_TOKENS: 1,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


class Run:
    """A delivery through a proxy, and the store that it ends in, seen past the proxy."""

    def __init__(self, proxy: BreakingProxy, store: Store, wanted: Settings) -> None:
        self.proxy = proxy
        self.store = store
        self.wanted = wanted
        self.made = 0

    def delivery(self, limits: Limits) -> Delivery:
        sender = StoreSender(open_store(self.wanted.store_dsn), self.wanted)
        return Delivery(
            "proxy",
            sender.send,
            limits=limits,
            encode=Store.encode,
            spool=spool_of(self.wanted),
            confirm=sender.confirm,
        )

    def make(self, delivery: Delivery, spans: int) -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(delivery)
        tracer = provider.get_tracer("tests")
        for _ in range(spans):
            session = f"s{self.made % 7}"
            attributes: dict[str, str | int] = {**CALL, names.SESSION_ID: session, names.SESSION_PATH: "/a"}
            tracer.start_span(f"n{self.made}", attributes=attributes).end()
            self.made += 1

    def counts(self) -> tuple[int, ...]:
        """Rows and different spans in otel_traces and llm_calls, sums in the sessions, tokens."""
        queries = (
            "SELECT count(), uniqExact(SpanName) FROM otel_traces",
            "SELECT count(), uniqExact(span_id) FROM llm_calls",
            "SELECT sum(calls), toUInt64(sum(input_tokens) / 10) FROM sessions",
        )
        return tuple(int(number) for query in queries for number in self.store.reader().query(query).rows[0])


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Iterator[Run]:
    direct = server.dsn()
    with breaking(server.port, lambda: "pass") as proxy, open_store(direct) as store:
        store.migrate()
        through = direct.replace(str(server.port), str(proxy.port))
        yield Run(proxy, store, settings.load({"store": through, "spool_dir": str(tmp_path / "spool")}))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many failures in little time."""
    monkeypatch.setattr("otel_sessions.delivery.sender._FIRST_RETRY_SECONDS", 0.005)
    monkeypatch.setattr("otel_sessions.delivery.sender._LAST_RETRY_SECONDS", 0.02)


def test_connections_that_break_at_random_count_every_span_once(run: Run) -> None:
    """Before, in the middle of and after the insert: the raw spans, the calls and the sums agree."""
    run.proxy.choose = at_random(seed=4)
    delivery = run.delivery(Limits(100_000, 10, 60))
    run.make(delivery, 250)
    result = delivery.flush(90)
    assert (result.delivered, result.pending, result.dropped) == (250, 0, 0)
    delivery.shutdown()
    assert run.counts() == (250,) * 6
    assert {BEFORE, MIDDLE, AFTER} <= set(run.proxy.seen)


def test_an_insert_that_was_applied_without_a_reply_counts_once_after_a_restart(run: Run) -> None:
    """The process that made the batch ends in doubt; the next sends it again, and nothing counts twice."""
    run.proxy.choose = lambda: AFTER
    delivery = run.delivery(Limits(1000, 100, 60))
    run.make(delivery, 20)
    while run.proxy.seen[AFTER] < 2:  # the second comes after the first was applied
        delivery.flush(0.5)
    delivery.shutdown(0.2)
    assert delivery.result().pending_disk == 20
    assert run.counts() == (20,) * 6
    run.proxy.choose = lambda: "pass"
    place = spool_of(run.wanted)
    assert place is not None
    sender = StoreSender(open_store(run.wanted.store_dsn), run.wanted)
    assert push(place, sender.send, confirm=sender.confirm).recovered == 20
    assert run.counts() == (20,) * 6


def test_an_outage_under_load_loses_and_doubles_nothing(run: Run) -> None:
    """The server goes away for a while and comes back; all that ended meanwhile arrives once."""
    delivery = run.delivery(Limits(100_000, 500, 0.1))
    slowest = 0.0
    pause = threading.Event()
    for tick in range(60):
        run.proxy.away = 10 <= tick < 40
        started = time.perf_counter()
        run.make(delivery, 25)
        slowest = max(slowest, time.perf_counter() - started)
        pause.wait(0.05)
    assert delivery.flush(60).delivered == 1500
    delivery.shutdown()
    assert run.counts() == (1500,) * 6
    assert slowest < 2.0


def test_two_processes_that_send_the_same_batch_count_once(run: Run) -> None:
    """Should a batch ever be sent by two at the same time, the token makes it one."""
    delivery = run.delivery(Limits(1000, 100, 60))
    blocks: list[tuple[bytes, str]] = []
    stores = [open_store(run.wanted.store_dsn) for _ in range(4)]
    delivery._parts.sender._destination = Destination("kept", lambda body, token: blocks.append((body, token)))
    run.make(delivery, 50)
    delivery.flush(10)
    delivery.shutdown()
    threads = [threading.Thread(target=store.insert_encoded, args=blocks[0]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with contextlib.ExitStack() as stack:
        for store in stores:
            stack.callback(store.close)
    assert run.counts() == (50,) * 6


def test_a_missing_schema_is_told_from_a_broken_connection(tmp_path: Path) -> None:
    """The server's error code makes it a refusal: no endless retries, the reason is kept, and a mended one goes on."""
    place = None
    with running(tmp_path / "server") as server, breaking(server.port, lambda: "pass"):
        wanted = settings.load({"store": server.dsn(), "spool_dir": str(tmp_path / "spool"), "migrate": False})
        place = spool_of(wanted)
        assert place is not None
        sender = StoreSender(open_store(wanted.store_dsn), wanted)
        delivery = Delivery("server", sender.send, limits=Limits(1000, 100, 0.01), encode=Store.encode, spool=place)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(delivery)
        provider.get_tracer("tests").start_span("x").end()
        result = delivery.flush(10)
        assert dict(result.dropped_reasons) == {"refused": 1}
        with open_store(wanted.store_dsn) as store:
            store.migrate()
        provider.get_tracer("tests").start_span("y").end()
        deadline = time.monotonic() + 20
        while delivery.flush(1).delivered < 2:
            assert time.monotonic() < deadline
        assert delivery.result().dropped == 0
        delivery.shutdown()
        with open_store(wanted.store_dsn) as store:
            assert store.reader().query("SELECT SpanName FROM otel_traces ORDER BY SpanName").rows == [("x",), ("y",)]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_the_store_is_being_connected_hangs_no_child(tmp_path: Path) -> None:
    """The lock that another thread held at the fork is not held in the child."""
    with asked_in_vain(Store.server_version) as (store, _):
        pid = os.fork()
        if pid == 0:  # pragma: no cover - runs in the child
            store.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_the_store_is_being_settled_hangs_no_child(tmp_path: Path) -> None:
    """A child settles too, after its inserts: it must not wait for a thread that stayed with its parent."""
    with asked_in_vain(Store.settle) as (store, silent):
        pid = os.fork()
        if pid == 0:  # pragma: no cover - runs in the child
            try:
                threading.Thread(target=ask, args=(store, Store.settle), daemon=True).start()
                silent.settimeout(20)
                silent.accept()
                os._exit(0)
            finally:  # a child that raised would go on with the tests that come next
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0


@contextlib.contextmanager
def asked_in_vain(question: Callable[[Store], object]) -> Iterator[tuple[Store, socket.socket]]:
    """A store at a server that never answers, and that server, while another thread waits in ``question``."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = open_store(f"http://127.0.0.1:{silent.getsockname()[1]}/otel")
        waiting = threading.Thread(target=ask, args=(store, question))
        waiting.start()
        accepted, _ = silent.accept()
        with accepted:
            yield store, silent
    waiting.join(30)
    store.close()


def ask(store: Store, question: Callable[[Store], object]) -> None:
    with contextlib.suppress(StoreError):
        question(store)


def test_a_failing_store_is_reported_once_and_not_by_the_driver_too(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """In an outage the log holds one warning, not one per attempt."""
    run.proxy.away = True
    delivery = run.delivery(Limits(1000, 10, 0.01))
    run.make(delivery, 50)
    delivery.flush(0.5)
    delivery.shutdown(0.1)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.name for record in warnings] == ["otel_sessions"]
    assert "cannot deliver" in warnings[0].getMessage()
