"""Session headers of a request: what they say, and taking them off before the request leaves.

Names and values may be anything a client lets through; nothing here raises because of them. Header names have no
case, so property names are lower-case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter

from otel_sessions.base.guard import count
from otel_sessions.base.paths import MAX_SEGMENT, normalize_id, normalize_path
from otel_sessions.base.values import Session

MAX_PROPERTIES = 50
MAX_VALUE = 1024
_ID, _NAME, _PATH, _USER = "id", "name", "path", "user"
_FIELDS = {
    b"otel-session-id": _ID,
    b"otel-session-name": _NAME,
    b"otel-session-path": _PATH,
    b"otel-session-user": _USER,
    b"helicone-session-id": _ID,
    b"helicone-session-name": _NAME,
    b"helicone-session-path": _PATH,
    b"helicone-user-id": _USER,
}
_PROPERTY_PREFIXES = (b"otel-session-property-", b"helicone-property-")
_STRIPPED_PREFIXES = (b"otel-session-", b"helicone-property-")
_STRIPPED = frozenset({*_FIELDS, b"traceparent", b"tracestate", b"baggage"})
MAX_PASSED = 1024
_name = itemgetter(0)

Raw = list[tuple[bytes, bytes]]
Items = Iterable[tuple[bytes, bytes, bytes]]
"""Name, name in lower case, value."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the headers of one request say, our own before Helicone's; ``None`` is not said."""

    fields: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    def over(self, ambient: Session | None) -> Session | None:
        """The session of the request: what is said here wins over ``ambient``; another id starts afresh."""
        session_id = normalize_id(self.fields.get(_ID, "")) or (ambient.id if ambient else "")
        if not session_id:
            return None
        if ambient is None or ambient.id != session_id:
            ambient = Session(id=session_id)
        path = normalize_path(self.fields[_PATH]) if _PATH in self.fields else ambient.path
        return replace(
            ambient,
            path=path,
            name=_short(self.fields.get(_NAME)) or ambient.name,
            user_id=normalize_id(self.fields.get(_USER, "")) or ambient.user_id,
            properties={**ambient.properties, **self.properties} if self.properties else ambient.properties,
            step_kind=ambient.step_kind if path == ambient.path else None,
        )


def all_pass(items: Items) -> bool:
    """Whether none is ours for sure: all names were seen before. One C call, for this runs for each header of each call."""
    return _passed.issuperset(map(_name, items))


def split(raw: Raw) -> tuple[Raw, Given | None]:
    """The headers that go on to the provider, and what the others say; the same list if nothing is taken off."""
    taken = [item for item in raw if item[0] not in _passed and _is_ours(item[0].lower())]
    kept = [item for item in raw if item not in taken] if taken else raw
    if len(_passed) < MAX_PASSED:
        _passed.update(map(_name, kept))
    return kept, _read(taken) if taken else None


_passed: set[bytes] = set()
"""Names of headers that are not ours."""


def _is_ours(name: bytes) -> bool:
    return name in _STRIPPED or name.startswith(_STRIPPED_PREFIXES)


def _read(items: Iterable[tuple[bytes, bytes]]) -> Given | None:
    fields: dict[str, str] = {}
    properties: dict[str, str] = {}
    # Sorted so that our own headers, which come later in the alphabet, win over Helicone's.
    for name, value in sorted((name.lower(), value) for name, value in items):
        if name in _FIELDS:
            fields[_FIELDS[name]] = _decoded(value)
        elif name.startswith(_PROPERTY_PREFIXES):
            _property(properties, name, value)
    return Given(fields, properties) if fields or properties else None


def _property(properties: dict[str, str], name: bytes, value: bytes) -> None:
    prefix = next(prefix for prefix in _PROPERTY_PREFIXES if name.startswith(prefix))
    key = _decoded(name.removeprefix(prefix))[:MAX_SEGMENT]
    if not key:
        return
    if key not in properties and len(properties) >= MAX_PROPERTIES:
        count("property.dropped", "otel-sessions: a request has more than %d session properties", MAX_PROPERTIES)
        return
    properties[key] = _decoded(value)[:MAX_VALUE]


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _short(value: str | None) -> str | None:
    return value.strip()[:MAX_VALUE] if value else None
