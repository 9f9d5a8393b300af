"""The spool: batches on disk outlive their process, keep their order and their bound, and have one owner at a time."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from folder_destination import batch_of

from otel_sessions.base.errors import SpoolError
from otel_sessions.delivery import Spool, SpoolPlace, spool_place
from otel_sessions.delivery.batch import Limits
from otel_sessions.delivery.database import SpoolFullError, SpoolLostError
from otel_sessions.delivery.owners import LEASE_SECONDS, Owner, start_time, this_machine

LEAVE = """
import os, sys, pathlib
from otel_sessions.delivery import Spool, SpoolPlace
from otel_sessions.delivery.batch import Batch
spool = Spool(SpoolPlace(pathlib.Path(sys.argv[1]), 10**8))
for number in range(int(sys.argv[2])):
    spool.put(Batch(f"left-{number}", 5, [b"left"], 4))
os._exit(9)
"""


@pytest.fixture
def place(tmp_path: Path) -> SpoolPlace:
    return SpoolPlace(tmp_path / "spools" / "here.sqlite3", 100_000_000, "http://ann:***@here:8123/otel")


@pytest.fixture
def spool(place: SpoolPlace) -> Iterator[Spool]:
    spool = Spool(place)
    yield spool
    spool.close()


def leave(place: SpoolPlace, batches: int) -> None:
    """A process puts batches of five spans and is killed."""
    done = subprocess.run([sys.executable, "-c", LEAVE, place.path, str(batches)], check=False, timeout=60)
    assert done.returncode == 9


def fill(spool: Spool) -> int:
    """Put batches of 50 kB until there is no room; how many there was room for."""
    for number in range(100):
        try:
            spool.put(batch_of(str(number), 1, os.urandom(50_000)))
        except SpoolFullError:
            return number
    raise AssertionError("no bound")


def taken(spool: Spool) -> list[str]:
    tokens = []
    while (batch := spool.next()) is not None:
        tokens.append(batch.token)
        spool.delete(batch)
    return tokens


def test_batches_come_back_as_they_were_in_order(spool: Spool) -> None:
    """What is put is what comes out, oldest first, until it is deleted."""
    spool.put(batch_of("a", 2, b"one\ntwo" * 1000, b"three"))
    spool.put(batch_of("b", 1, b"\x00\xff"))
    first = spool.next()
    assert first is not None
    assert (first.token, first.spans, first.size, first.own, first.attempts) == ("a", 2, 7005, True, 0)
    assert [*first.body] == [*first.body] == [b"one\ntwo" * 1000, b"three"]
    again = spool.next()
    assert again is not None
    assert again.token == "a"
    spool.delete(first)
    assert taken(spool) == ["b"]


def test_batches_that_wait_are_joined_and_sent_in_little_memory(spool: Spool) -> None:
    """After an outage many batches are one insert, whose pieces are unpacked one at a time."""
    pieces = [bytes([number]) * 1_000_000 for number in range(24)]
    for number in range(0, 24, 2):
        spool.put(batch_of(str(number), 5, *pieces[number : number + 2]))
    tracemalloc.start()
    batch = spool.next(Limits(batch_size=50, batch_bytes=30_000_000))
    assert batch is not None
    assert (batch.token, batch.spans, batch.size) == ("0", 50, 20_000_000)
    assert all(piece == whole for piece, whole in zip(batch.body, pieces[:20], strict=True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
    assert spool.status().batches == 3
    spool.delete(batch)
    assert taken(spool) == ["20", "22"]
    assert spool.status().bytes_used < 100_000


def test_no_more_is_joined_than_an_insert_may_hold(spool: Spool) -> None:
    """A batch grows neither beyond the spans nor beyond the bytes that are allowed."""
    for token in "abcd":
        spool.put(batch_of(token, 5, b"x" * 100))
    for limits in (Limits(batch_size=14), Limits(batch_bytes=299)):
        batch = spool.next(limits)
        assert batch is not None
        assert (batch.spans, batch.size) == (10, 200)
        spool.delete(batch)
    assert spool.next() is None


def test_a_batch_that_failed_goes_behind_those_that_did_not(spool: Spool) -> None:
    """A batch that fails again and again does not hold up the others."""
    for token in "ab":
        spool.put(batch_of(token, 1, b"x"))
    first = spool.next()
    assert first is not None
    spool.attempted(first.tried(1000.0))
    assert taken(spool) == ["b", "a"]


def test_the_count_of_attempts_survives_a_restart(place: SpoolPlace) -> None:
    """Whoever sends a batch next knows that it may have arrived already."""
    spool = Spool(place)
    spool.put(batch_of("a", 1, b"x"))
    batch = spool.next()
    assert batch is not None
    spool.attempted(batch.tried(1000.0))
    spool.release()
    later = Spool(place)
    later.adopt()
    found = later.next()
    assert found is not None
    assert (found.attempts, found.attempted_at, found.own) == (1, 1000.0, False)
    later.close()


def test_a_killed_process_leaves_its_batches_to_the_next(place: SpoolPlace, spool: Spool) -> None:
    """Batches of a process that was killed belong to whoever adopts them, own batches going first."""
    leave(place, 3)
    spool.put(batch_of("own", 1, b"x"))
    assert spool.adopt() == 15
    assert spool.adopt() == 0
    assert taken(spool) == ["own", "left-0", "left-1", "left-2"]


def test_a_running_process_keeps_its_batches(place: SpoolPlace, spool: Spool) -> None:
    """Nobody takes over what a process that runs will send itself, however long it has been silent."""
    spool.put(batch_of("mine", 7, b"x"))
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE owners SET seen = 0")
    connection.close()
    other = Spool(place)
    assert other.adopt() == 0
    assert other.next() is None
    assert other.status().spans == 7
    assert other.status().orphaned_spans == 0
    other.close()


def test_a_process_that_leaves_takes_nothing_from_one_that_stays(place: SpoolPlace, spool: Spool) -> None:
    """With two connections here, another process that opens and closes the file must not remove what we still write to.

    SQLite's locks are the process's: if we opened and closed the file ourselves, they would all be gone.
    """
    spool.put(batch_of("a", 3, b"x"))
    second = Spool(place)
    assert second.status().spans == 3
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*c.execute('SELECT total(spans) FROM batches').fetchone()); c.close()"

    def seen() -> str:
        command = [sys.executable, "-c", look, str(place.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    assert seen() == "3.0"
    spool.put(batch_of("b", 4, b"x"))
    assert seen() == "7.0"
    with closing(Spool(place)) as third:
        assert third.status().spans == 7
    second.close()


def test_a_released_spool_belongs_to_the_next(place: SpoolPlace, spool: Spool) -> None:
    """A process that ends in good order leaves what it could not send at once."""
    spool.put(batch_of("a", 3, b"x"))
    spool.release()
    other = Spool(place)
    assert other.status().orphaned_spans == 3
    assert other.adopt() == 3
    assert taken(other) == ["a"]
    other.close()


def test_who_was_taken_for_dead_takes_back_what_is_left(place: SpoolPlace, spool: Spool) -> None:
    """A process that slept past its lease, in another container, owns again what was not sent meanwhile."""
    for token in "ab":
        spool.put(batch_of(token, 1, b"x"))
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE owners SET machine = 'elsewhere', seen = seen - ?", (LEASE_SECONDS + 1,))
    connection.close()
    other = Spool(place)
    assert other.adopt() == 2
    sent = other.next()
    assert sent is not None
    other.delete(sent)
    assert spool.beat()
    left: list[tuple[int, int]] = []
    spool.left(lambda waiting, dead: left.append((waiting, dead)))
    assert left == [(1, 0)]
    assert not spool.beat()
    assert other.next() is None
    assert taken(spool) == ["b"]
    other.close()


def test_what_the_bound_leaves_no_room_for_is_refused(tmp_path: Path) -> None:
    """A full spool refuses the newest and keeps what it has; after a delete there is room again."""
    place = SpoolPlace(tmp_path / "small.sqlite3", 1_000_000)
    spool = Spool(place)
    stored = fill(spool)
    assert 10 <= stored < 20
    assert spool.status().batches == stored
    assert spool.status().bytes_used <= 1_000_000
    first = spool.next()
    assert first is not None
    assert first.token == "0"
    spool.delete(first)
    spool.put(batch_of("again", 1, os.urandom(40_000)))
    assert taken(spool) == [*map(str, range(1, stored)), "again"]
    assert place.path.stat().st_size <= 1_000_000
    spool.close()


def test_many_processes_share_one_file(place: SpoolPlace, spool: Spool) -> None:
    """Processes that write at the same time all keep what they put, once."""
    arguments = [sys.executable, "-c", LEAVE, str(place.path), "50"]
    code = LEAVE.replace("left-{number}", "{os.getpid()}-{number}")
    arguments[2] = code
    running = [subprocess.Popen(arguments) for _ in range(4)]
    assert [process.wait(60) for process in running] == [9] * 4
    assert spool.adopt() == 4 * 50 * 5
    tokens = taken(spool)
    assert len(tokens) == len(set(tokens)) == 200


def test_refused_batches_lie_among_the_dead_with_the_reason(spool: Spool) -> None:
    """What the store refused is listed with its reason, can be sent again, or be dropped."""
    for token in "ab":
        spool.put(batch_of(token, 4, b"x"))
        batch = spool.next()
        assert batch is not None
        spool.bury(batch, "Code: 27. Cannot parse", revivable=False)
    assert spool.next() is None
    assert [(dead.token, dead.spans, dead.reason) for dead in spool.dead()] == [
        ("a", 4, "Code: 27. Cannot parse"),
        ("b", 4, "Code: 27. Cannot parse"),
    ]
    assert (spool.status().dead_batches, spool.status().dead_spans) == (2, 8)
    assert spool.revive() == 0
    first, second = spool.dead()
    spool.drop(second)
    spool.retry(first)
    assert spool.dead() == ()
    assert taken(spool) == ["a"]


def test_what_died_by_a_fault_of_the_store_is_revived_a_few_times(spool: Spool) -> None:
    """Batches that met a wrong password come back when the store takes others, but not for ever."""
    spool.put(batch_of("a", 4, b"x"))
    revived = []
    for _ in range(5):
        batch = spool.next()
        if batch is not None:
            spool.bury(batch, "Code: 516. Authentication failed", revivable=True)
        revived.append(spool.revive())
    assert revived == [4, 4, 4, 0, 0]
    assert len(spool.dead()) == 1


def test_only_the_user_may_read_the_spool(place: SpoolPlace, spool: Spool) -> None:
    """Spans may hold content: file, side files and folder are closed to others."""
    spool.put(batch_of("a", 1, b"x"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700


def test_a_damaged_file_is_set_aside(place: SpoolPlace) -> None:
    """A file that is no spool is renamed, not deleted, and a new one takes its place."""
    place.path.parent.mkdir()
    place.path.write_bytes(b"this is no database" * 1000)
    spool = Spool(place)
    with pytest.raises(SpoolLostError, match="damaged"):
        spool.put(batch_of("a", 1, b"x"))
    spool.forget()
    spool.put(batch_of("a", 1, b"x"))
    assert taken(spool) == ["a"]
    assert [path.read_bytes()[:4] for path in place.path.parent.glob("*.damaged-*")] == [b"this"]
    spool.close()


def test_a_spool_of_a_later_format_is_left_alone(place: SpoolPlace, spool: Spool) -> None:
    """An older package does not write into what it does not know."""
    spool.put(batch_of("a", 1, b"x"))
    spool.close()
    with sqlite3.connect(place.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SpoolError, match="format is 99"):
        spool.put(batch_of("b", 1, b"x"))


def test_the_status_of_a_spool_that_is_not_there_makes_none(place: SpoolPlace, spool: Spool) -> None:
    """Looking whether something waits creates no file."""
    assert spool.is_empty()
    assert not place.path.exists()


def test_an_emptied_file_gives_its_space_back(place: SpoolPlace, spool: Spool) -> None:
    """After a long outage the disk is free again."""
    for number in range(40):
        spool.put(batch_of(str(number), 1, os.urandom(2_500_000)[:2_400_000]))
    large = place.path.stat().st_size
    taken(spool)
    for _ in range(20):
        spool.rest()
    spool.close()
    assert place.path.stat().st_size < large - 20_000_000


def test_one_file_per_store_whoever_writes(tmp_path: Path) -> None:
    """User, password and options of a DSN do not matter; host, port and database do."""
    one = spool_place(tmp_path, "http://ann:secret@db.internal:8123/otel?compression=lz4", 1).path
    same = spool_place(tmp_path, "http://bob:other@db.internal:8123/otel", 1).path
    assert one == same
    assert "secret" not in str(one)
    others = [
        "http://db.internal:8123/other",
        "http://db.internal:8124/otel",
        "https://db.internal:8123/otel",
        "http://db2:8123/otel",
    ]
    assert len({one, *(spool_place(tmp_path, dsn, 1).path for dsn in others)}) == 5


def test_a_process_is_gone_when_its_number_names_another() -> None:
    """A later process with the same number is not the owner."""
    me = Owner(1, this_machine(), os.getpid(), start_time(os.getpid()) or 0, 0.0)
    assert not me.is_gone(1e9)
    assert me.started
    assert Owner(1, me.machine, me.pid, me.started - 1, 1e9).is_gone(1e9)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert Owner(1, me.machine, child.pid, me.started, 1e9).is_gone(1e9)


@pytest.mark.parametrize(("now", "gone"), [(1000.0, False), (1059.0, False), (1061.0, True), (500.0, True)])
def test_elsewhere_only_the_last_sign_of_life_counts(now: float, *, gone: bool) -> None:
    """For another container the lease decides, and a clock that was set back does not make a process immortal."""
    assert Owner(1, "elsewhere", 1, 1, 1000.0).is_gone(now) is gone


def test_the_status_is_plain_data(spool: Spool) -> None:
    """The status names the store without its password, and everything in it can be written as JSON."""
    spool.put(batch_of("a", 1, b"x"))
    status = spool.status()
    assert status.store == "http://ann:***@here:8123/otel"
    assert (status.batches, status.spans, status.processes, status.last_error) == (1, 1, 1, "")
    assert json.dumps({name: str(getattr(status, name)) for name in status.__slots__})


def test_what_another_process_has_just_sent_is_not_sent_again(
    place: SpoolPlace, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was taken for dead looks for its batch at the moment in which the other one deletes it."""
    spool.put(batch_of("a", 1, b"x"))
    join = Spool._join

    def late(*arguments: Any) -> tuple[int, int] | None:
        with closing(sqlite3.connect(place.path)) as connection, connection:
            for table in ("batches", "bodies", "pieces"):
                connection.execute(f"DELETE FROM {table}")
        return join(*arguments)

    monkeypatch.setattr(Spool, "_join", late)
    assert spool.next(Limits()) is None
