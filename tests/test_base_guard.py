"""The guard: nothing of ours escapes, everything is counted, the log is not flooded."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from otel_sessions.base.guard import count, counters, guarded

FRESH = (f"test-{n}" for n in itertools.count())


def test_an_exception_is_swallowed_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Repeated failures are counted each, and logged with a traceback once a minute."""
    name = next(FRESH)
    for _ in range(3):
        with guarded(name):
            raise ValueError("mine")
    assert counters()[f"error.{name}"] == 3
    (record,) = caplog.records
    assert f"{name} failed" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_cancellation_and_exit_pass(signal: type[BaseException]) -> None:
    """What ends a task or the process is not ours to keep."""
    with pytest.raises(signal), guarded(next(FRESH)):
        raise signal


def test_a_guarded_block_that_succeeds_leaves_no_trace() -> None:
    """No counter for what went well."""
    name = next(FRESH)
    with guarded(name):
        pass
    assert f"error.{name}" not in counters()


def test_a_message_is_formatted_and_rate_limited(caplog: pytest.LogCaptureFixture) -> None:
    """Each name has a minute of its own."""
    one, two = next(FRESH), next(FRESH)
    for name in (one, one, two):
        count(name, "%s of %d", name, 7)
    count(one)
    assert caplog.messages == [f"{one} of 7", f"{two} of 7"]
    assert (counters()[one], counters()[two]) == (3, 1)


def test_counting_from_many_threads_loses_nothing() -> None:
    """Counters are exact."""
    name = next(FRESH)

    def work() -> None:
        for _ in range(500):
            count(name)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters()[name] == 4000
