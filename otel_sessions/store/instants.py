"""Times with all their digits: Python's datetime ends at microseconds, ClickHouse's DateTime64 at nanoseconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.container import Array, Map, Nested, Tuple
from clickhouse_connect.datatypes.special import SimpleAggregateFunction
from clickhouse_connect.datatypes.temporal import DateTime64

TICKS = {"DateTime64": "int"}
"""The driver's format in which columns must be read for :func:`exact`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def exact(kind: ClickHouseType) -> Callable[[Any], Any]:
    """Makes a value of that type, read as ticks, a datetime in UTC, or ISO 8601 text where it has nanoseconds.

    Arrays, maps and tuples too, at any depth. Inside Variant, Dynamic and JSON they stay ticks: a value there does not say
    its type.
    """
    if isinstance(kind, SimpleAggregateFunction | Nested):
        return exact(kind.tuple_array if isinstance(kind, Nested) else kind.element_type)
    if isinstance(kind, DateTime64):
        return lambda ticks: None if ticks is None else _instant(ticks * kind.nano_divisor)
    if isinstance(kind, Array):
        item = exact(kind.element_type)
        return lambda values: [item(value) for value in values]
    if isinstance(kind, Map):
        key, item = exact(kind.key_type), exact(kind.value_type)
        return lambda values: {key(name): item(value) for name, value in values.items()}
    if isinstance(kind, Tuple):
        return _exact_tuple([exact(element) for element in kind.element_types])
    return lambda value: value


def _exact_tuple(items: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def convert(values: Any) -> Any:
        if values is None:
            return None
        if isinstance(values, dict):
            return {name: item(value) for item, (name, value) in zip(items, values.items(), strict=True)}
        return tuple(item(value) for item, value in zip(items, values, strict=True))

    return convert


def _instant(nanoseconds: int) -> datetime | str:
    micros, rest = divmod(nanoseconds, 1000)
    moment = _EPOCH + timedelta(microseconds=micros)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}{rest:03}Z" if rest else moment
