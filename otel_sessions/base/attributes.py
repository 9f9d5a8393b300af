"""Many attributes on a span at once, where none needs cleaning.

The SDK looks at each one in Python: its type, its length, its place, 80 byte codes in all. What a recorded call
ends with is a dozen attributes of known types, which are written in one step instead, into the very dictionary and
under the very locks that the SDK uses. There is no public way to do so, hence :func:`_as_known`: unless the SDK
keeps attributes exactly as it is known to, all of them go through ``set_attributes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span

Plain = str | bool | int | float | tuple[str, ...]
"""What the SDK keeps as it is, unless it limits the length of texts."""


def set_plain(span: Span, attributes: Mapping[str, Plain]) -> None:
    """``span.set_attributes(attributes)``; only that a key that was there keeps its place in the order.

    The SDK's own way is left to all spans but its own, to those that have ended, and where a limit may be exceeded.
    """
    if type(span) is _writable:
        store: Any = span._attributes  # noqa: SLF001 - for this and what follows, see _as_known
        with span._lock, store._lock:  # noqa: SLF001
            kept, most = store._dict, store.maxlen  # noqa: SLF001
            room = most is None or len(kept) + len(attributes) <= most
            if room and store.max_value_len is None and not store._immutable:  # noqa: SLF001
                kept.update(attributes)
                return
    span.set_attributes(attributes)


def _as_known(kind: type[sdk.Span]) -> bool:
    """Whether :func:`set_plain` leaves in a span of ``kind`` what ``set_attributes`` does, to the last field."""
    sample: dict[str, Plain] = {"text": "a", "number": 1, "share": 0.5, "truth": True, "texts": ("a", "b")}
    try:
        ours, theirs = (kind("", INVALID_SPAN_CONTEXT, resource=Resource.get_empty()) for _ in range(2))
        set_plain(ours, sample)
        theirs.set_attributes(sample)
        same = _fields(ours) == _fields(theirs)
        ours.start()
        ours.end()
        return same and _fields(ours)["_immutable"] is True
    except Exception:  # noqa: BLE001 - anything may have changed
        return False


def _fields(span: sdk.Span) -> dict[str, object]:
    """All that the container of ``span``'s attributes is made of, but for its lock."""
    store = span._attributes  # noqa: SLF001
    return {**vars(store), "_lock": None}


_writable: type[sdk.Span] | None = getattr(sdk, "_Span", None)
if _writable is not None and not _as_known(_writable):
    _writable = None
