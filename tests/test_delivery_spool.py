"""Delivery with a spool: outages, refusals, full disks and doubtful batches; the accounts add up through all of it."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from folder_destination import Folder, batch_of, decode, encode, named

from otel_sessions.base.errors import SpoolError, StoreError, StoreUnavailableError
from otel_sessions.base.group import SpanGroup
from otel_sessions.base.guard import counters
from otel_sessions.delivery import Delivery, Limits, Spool, SpoolPlace, push
from otel_sessions.delivery import sender as sending
from otel_sessions.delivery.intake import Intake
from otel_sessions.delivery.ledger import MEMORY, Ledger
from otel_sessions.delivery.outbox import Outbox

SMALL = Limits(10_000, 100, 0.05)
TOGETHER = Limits(10_000, 100, 60.0)
"""What is made before a flush is one batch, however slow the machine."""


class ServerError(Exception):
    """As clickhouse-connect raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Code: {code}")
        self.code = code


def refusal(code: int) -> StoreError:
    error = StoreError(f"Code: {code}. DB::Exception")
    error.__cause__ = ServerError(code)
    return error


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def until(reached: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what other threads do, without a fixed pause."""
    deadline = time.monotonic() + seconds
    ticking = threading.Event()
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        ticking.wait(0.005)


def test_an_outage_moves_spans_to_disk_and_back(folder: Folder) -> None:
    """While the destination is away spans wait on disk, not in memory; afterwards each arrives once."""
    delivery, make = folder.deliver(SMALL)
    folder.is_away = True
    make("a", 500)
    until(lambda: delivery.result().pending_disk == 500)
    result = delivery.result()
    assert (result.delivered, result.pending, result.pending_memory, result.dropped) == (0, 500, 0, 0)
    folder.is_away = False
    result = delivery.flush(20)
    assert (result.delivered, result.pending, result.dropped) == (500, 0, 0)
    assert folder.names() == named("a", 500)
    delivery.shutdown()


def test_shutdown_during_an_outage_returns_at_once_and_loses_nothing(folder: Folder) -> None:
    """With the spans safe on disk the host does not wait for the destination; the next delivery sends them."""
    folder.is_away = True
    delivery, make = folder.deliver(SMALL)
    make("a", 50)
    started = time.monotonic()
    delivery.shutdown(60)
    assert time.monotonic() - started < 20
    result = delivery.result()
    assert (result.pending_disk, result.pending_memory, result.dropped) == (50, 0, 0)
    folder.is_away = False
    later, _ = folder.deliver(SMALL)
    until(lambda: later.result().recovered == 50)
    assert (later.result().delivered, later.result().pending) == (0, 0)
    assert folder.names() == named("a", 50)
    later.shutdown()


def test_a_lost_reply_counts_once_also_after_a_restart(folder: Folder) -> None:
    """A batch that was applied while the reply got lost comes again under the same token, from the next process too."""
    sent: list[tuple[str, bytes]] = []

    def send(body: Iterable[bytes], token: str) -> None:
        sent.append((token, b"".join(body)))
        folder.send(body, token)
        raise StoreUnavailableError("the connection broke before the reply")

    delivery = Delivery("here", send, limits=TOGETHER, encode=encode, spool=folder.place())
    provider_make(delivery, "a", 5)
    delivery.shutdown(10)
    assert delivery.result().pending_disk == 5
    result = push(folder.place(), lambda body, token: sent.append((token, b"".join(body))))
    assert (result.recovered, result.delivered, result.pending) == (5, 0, 0)
    assert len(sent) >= 2
    assert len(set(sent)) == 1
    assert folder.names() == named("a", 5)


def provider_make(delivery: Delivery, name: str, spans: int) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(delivery)
    for number in range(spans):
        provider.get_tracer("tests").start_span(f"{name}-{number}").end()


@pytest.mark.parametrize("arrived", [True, False])
def test_old_doubts_are_cleared_by_asking(folder: Folder, *, arrived: bool) -> None:
    """A batch tried long ago may be unknown under its token by now: the destination is asked before it is sent again."""
    delivery, make = folder.deliver(SMALL)
    folder.is_away = True
    make("a", 3)
    delivery.shutdown(10)
    with sqlite3.connect(folder.place().path) as connection:
        connection.execute("UPDATE batches SET attempted_at = attempted_at - 3600")
    connection.close()
    asked: list[str] = []

    def confirm(body: Iterable[bytes], token: str) -> bool:
        asked.append(token)
        return arrived

    folder.is_away = False
    assert push(folder.place(), folder.send, confirm=confirm).recovered == 3
    assert len(asked) == 1
    assert folder.names() == ([] if arrived else named("a", 3))


def test_a_fresh_doubt_is_left_to_the_token(folder: Folder) -> None:
    """Right after a failure the same insert is repeated, which also repairs one that was applied by half."""
    delivery, make = folder.deliver(SMALL)
    folder.is_away = True
    make("a", 3)
    delivery.shutdown(10)
    folder.is_away = False
    assert push(folder.place(), folder.send, confirm=lambda *_: pytest.fail("asked")).recovered == 3
    assert folder.names() == named("a", 3)


def test_a_batch_that_can_never_be_sent_is_kept_with_the_reason(folder: Folder) -> None:
    """Bad data goes to the dead, is counted as dropped, and does not stop what comes after."""
    refused = iter([refusal(27)])

    def send(body: Iterable[bytes], token: str) -> None:
        for error in refused:
            raise error
        folder.send(body, token)

    delivery = Delivery("here", send, limits=TOGETHER, encode=encode, spool=folder.place())
    provider_make(delivery, "bad", 4)
    result = delivery.flush(10)
    assert (result.dropped, dict(result.dropped_reasons), result.pending) == (4, {"refused": 4}, 0)
    provider_make(delivery, "good", 2)
    result = delivery.flush(10)
    assert (result.delivered, result.dropped, result.pending) == (2, 4, 0)
    delivery.shutdown()
    with closing(Spool(folder.place())) as spool:
        [dead] = spool.dead()
    assert (dead.spans, dead.reason) == (4, "Code: 27. DB::Exception")


def test_what_a_wrong_password_refused_is_sent_when_it_is_right(folder: Folder) -> None:
    """A fault of the destination's lays few batches among the dead; they rise when the destination takes one."""
    wrong = threading.Event()
    wrong.set()

    def send(body: Iterable[bytes], token: str) -> None:
        if wrong.is_set():
            raise refusal(516)
        folder.send(body, token)

    delivery = Delivery("here", send, limits=SMALL, encode=encode, spool=folder.place())
    provider_make(delivery, "a", 10)
    result = delivery.flush(0.3)
    with closing(Spool(folder.place())) as spool:
        until(lambda: bool(spool.dead()))
    assert result.delivered == 0
    provider_make(delivery, "b", 10)
    wrong.clear()
    until(lambda: delivery.flush(1).delivered == 20)
    result = delivery.result()
    assert (result.delivered, result.pending, result.dropped, dict(result.dropped_reasons)) == (20, 0, 0, {})
    assert folder.names() == named("a", 10) + named("b", 10)
    delivery.shutdown()


def test_full_spool_and_full_queue_drop_the_newest_and_add_up(folder: Folder) -> None:
    """With disk and queue full, the counters still say where each span is, and the oldest are kept."""
    folder.is_away = True
    heavy = Delivery(
        "here",
        folder.send,
        limits=Limits(queue_size=200, batch_size=10, batch_age_seconds=0.01),
        encode=lambda groups: encode(groups) + b" " + os.urandom(30_000).hex().encode(),
        spool=folder.place(max_bytes=400_000),
    )
    made = 0
    before = counters().get("spool.full", 0)
    while heavy.result().dropped < 50 or counters().get("spool.full", 0) == before:
        provider_make(heavy, str(made), 10)
        made += 10
        assert made < 100_000
    result = heavy.result()
    assert result.delivered == 0
    assert result.pending + result.dropped == made
    assert 0 < result.pending_disk < 400
    assert result.pending_memory <= 200 + 1
    assert dict(result.dropped_reasons) == {"queue_full": result.dropped}
    heavy.shutdown(0.5)
    result = heavy.result()
    assert result.pending + result.dropped == made
    assert result.pending == result.pending_disk


@pytest.mark.skipif(os.name == "nt", reason="folders have no mode there")
def test_a_folder_that_cannot_be_written_means_memory_and_one_warning(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a place on disk spans are delivered from memory, and the log says once why."""
    before = counters().get("spool.failed", 0)
    blocked = folder.path / "blocked"
    blocked.write_text("a file where the folder should be")
    delivery, make = folder.deliver(SMALL, spool=SpoolPlace(blocked / "x.sqlite3", 10**6))
    with caplog.at_level(logging.WARNING):
        make("a", 300)
        result = delivery.flush(20)
        make("b", 300)
        result = delivery.flush(20)
    assert (result.delivered, result.pending, result.dropped) == (600, 0, 0)
    assert counters()["spool.failed"] > before
    assert sum("cannot spool" in record.getMessage() for record in caplog.records) <= 1
    folder.is_away = True
    make("c", 5)
    delivery.shutdown(0.3)
    assert (delivery.result().delivered, delivery.result().dropped) == (600, 5)


def test_memory_moves_to_disk_when_the_disk_is_back(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that had to stay in memory are saved as soon as the spool works again."""
    folder.is_away = True
    blocked = folder.path / "spool"
    blocked.write_text("in the way")
    delivery, make = folder.deliver(SMALL)
    make("a", 300)
    until(lambda: delivery.result().pending == 300 and not len(delivery._parts.intake))
    assert delivery.result().pending_disk == 0
    blocked.unlink()
    delivery.shutdown(1)
    result = delivery.result()
    assert (result.pending_disk, result.dropped) == (300, 0)
    folder.is_away = False
    assert push(folder.place(), folder.send).recovered == 300
    assert folder.names() == named("a", 300)


@pytest.mark.parametrize("settled", [True, False])
def test_a_damaged_spool_is_counted_as_lost(folder: Folder, *, settled: bool) -> None:
    """What a damaged file held is dropped in the accounts, and delivery goes on with a new file."""
    ledger = Ledger(Intake(100))
    spool = Spool(folder.place())
    outbox = Outbox(ledger, spool, Limits(batch_size=20))
    for token in "abc":
        outbox.put(batch_of(token, 20, token.encode()))
    ledger.move(60, None, MEMORY)
    assert ledger.result().pending_disk == 60
    in_hand = outbox.next()
    assert in_hand is not None
    spool.close()
    folder.place().path.write_bytes(b"garbage!" * 1000)
    outbox.put(batch_of("d", 20, b"d"))
    ledger.move(20, None, MEMORY)
    result = ledger.result()
    assert (result.pending, dict(result.dropped_reasons)) == (40, {"spool_damaged": 40})
    if settled:
        outbox.delivered(in_hand)
    left = set()
    while (batch := outbox.next()) is not None:
        left.add(batch.token)
        outbox.delivered(batch)
    assert left == ({"d"} if settled else {"a", "d"})
    result = ledger.result()
    assert (result.delivered, result.pending, dict(result.dropped_reasons)) == (40, 0, {"spool_damaged": 40})
    outbox.close("test")


def test_one_span_that_cannot_be_encoded_costs_no_other(folder: Folder) -> None:
    """A batch whose encoding fails is divided until only the culprit is dropped."""

    def picky(groups: Sequence[SpanGroup]) -> bytes:
        body = encode(groups)
        if b'"a-7"' in body:
            raise ValueError("a-7")
        return body

    delivery, make = folder.deliver(SMALL, encode=picky)
    make("a", 16)
    result = delivery.flush(20)
    assert (result.delivered, dict(result.dropped_reasons)) == (15, {"unencodable": 1})
    assert folder.names() == sorted(set(named("a", 16)) - {"a-7"})
    delivery.shutdown()


def test_long_batches_are_divided(folder: Folder) -> None:
    """No insert is longer than its limit, except of a single span."""
    delivery, make = folder.deliver(Limits(1000, 100, 60, batch_bytes=100))
    make("a", 99)
    assert delivery.flush(20).delivered == 99
    assert folder.names() == named("a", 99)
    assert max(path.stat().st_size for path in folder.batches.iterdir()) <= 100
    delivery.shutdown()


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_waited_through_an_outage_is_sent_in_few_inserts(folder: Folder, *, on_disk: bool) -> None:
    """Many short batches are joined up to the size of one; the first, which was tried already, stays as it was."""
    folder.is_away = True
    delivery, make = folder.deliver(Limits(10_000, 100, 0.01), spool=folder.place() if on_disk else None)

    def batched(spans: int) -> bool:
        return not len(delivery._parts.intake) and delivery.result().pending == spans

    for number in range(60):
        make(f"n{number}", 5)
        until(partial(batched, 5 * (number + 1)))
    folder.is_away = False
    assert delivery.flush(20).delivered == 300
    assert folder.names() == sorted(name for number in range(60) for name in named(f"n{number}", 5))
    sizes = [len(decode(path.read_bytes())) for path in folder.batches.iterdir()]
    assert max(sizes) <= 100
    assert len(sizes) <= 8
    delivery.shutdown()


def test_one_batch_that_keeps_failing_does_not_hold_up_the_others(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that alone meets passing failures is left for later while others are sent."""
    monkeypatch.setattr(sending, "_FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(sending, "_LAST_RETRY_SECONDS", 0.002)

    def send(body: Iterable[bytes], token: str) -> None:
        if b"heavy-0" in b"".join(body):
            raise StoreUnavailableError("Code: 241. Memory limit exceeded")
        folder.send(body, token)

    delivery = Delivery("here", send, limits=Limits(1000, 1, 0.01), encode=encode, spool=folder.place())
    provider_make(delivery, "heavy", 1)
    provider_make(delivery, "light", 9)
    until(lambda: folder.names() == named("light", 9))
    assert delivery.result().pending == 1
    with closing(Spool(folder.place())) as spool:
        assert spool.status().last_error == "Code: 241. Memory limit exceeded"
    delivery.shutdown(0.2)


def test_push_stops_at_a_destination_that_is_away(folder: Folder) -> None:
    """Pushing by hand says after a few attempts that it cannot, and everything stays."""
    folder.is_away = True
    delivery, make = folder.deliver(SMALL)
    make("a", 5)
    delivery.shutdown(10)
    result = push(folder.place(), folder.send)
    assert result.recovered == 0
    with closing(Spool(folder.place())) as spool:
        assert spool.status().orphaned_spans == 5
    with pytest.raises(SpoolError):
        push(SpoolPlace(folder.path / "away" / "x.sqlite3", 10**6), folder.send)


def test_the_end_is_in_the_log_when_something_was_dropped(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """The last line says how many spans of how many were lost, and why."""
    delivery = Delivery("here", folder.send, encode=encode, limits=SMALL)
    folder.is_away = True
    provider_make(delivery, "a", 3)
    with caplog.at_level(logging.WARNING):
        delivery.shutdown(0.2)
    assert "otel-sessions: of 3 spans for here 3 were dropped: shutdown 3" in [r.getMessage() for r in caplog.records]


def test_a_spool_needs_an_encoding(folder: Folder) -> None:
    """Span objects cannot lie on disk."""
    with pytest.raises(ValueError, match="encode"):
        Delivery("here", folder.send, spool=folder.place())


def test_a_batch_that_cannot_be_unpacked_holds_up_no_other(folder: Folder) -> None:
    """A damaged piece lies among the dead, with the reason; what comes after it arrives."""
    folder.is_away = True
    for name in "ab":
        delivery, make = folder.deliver(TOGETHER)
        make(name, 3)
        delivery.shutdown(10)
    with closing(sqlite3.connect(folder.place().path)) as connection, connection:
        connection.execute("UPDATE bodies SET body = x'00' WHERE id = (SELECT min(id) FROM bodies)")
        connection.execute("UPDATE batches SET attempts = 1")  # so it is the first, and joined with no other
    folder.is_away = False
    push(folder.place(), folder.send)
    with closing(Spool(folder.place())) as spool:
        [dead] = spool.dead()
        assert (dead.spans, dead.reason[:4]) == (3, "LZ4F")
        assert spool.status().batches == 0
    assert folder.names() == named("b", 3)
