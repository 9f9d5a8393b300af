"""Old doubts: the store can tell whether an encoded batch has arrived."""

from __future__ import annotations

from recorded_spans import SECOND, START, call, span

from otel_sessions.base.group import grouped
from otel_sessions.store import Store
from otel_sessions.store.doubt import Key, keys_of

YEAR = 366 * 86_400.0


def test_a_block_tells_its_keys() -> None:
    """Times and ids come out of the encoded bytes as they went in, whatever else the spans say."""
    spans = [span(number, {"text": "ü" * number}, start=number / 3) for number in range(1, 300)]
    assert keys_of(Store.encode(grouped(spans))) == [
        Key(START + round(number / 3 * SECOND), f"{0xABC:032x}", f"{number:016x}") for number in range(1, 300)
    ]


def test_what_was_inserted_is_held(store: Store) -> None:
    """An encoded batch is held once it is in, and inserting it again under its token changes nothing."""
    block = Store.encode(grouped([call(number, path="/") for number in range(1, 5)]))
    assert not store.holds([block])
    for _ in range(2):
        store.insert_encoded([block], "token")
        assert store.holds([block])
    assert store.reader().query("SELECT count() AS n, uniqExact(span_id) AS u FROM session_calls").rows == [(4, 4)]


def test_a_batch_over_two_years_is_held_when_all_of_it_is(store: Store) -> None:
    """A block is whole only within a partition: every month has to be there."""
    early, late = span(1), span(2, start=YEAR)
    store.insert([early], "early")
    together, apart = (
        [Store.encode(grouped([early, late]))],
        [Store.encode(grouped([early])), Store.encode(grouped([late]))],
    )
    assert not store.holds(together)
    assert not store.holds(apart)
    store.insert([late], "late")
    assert store.holds(together)
    assert store.holds(apart)
