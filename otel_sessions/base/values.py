"""Frozen values that travel between stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from otel_sessions.base import names
from otel_sessions.base.guard import count
from otel_sessions.base.paths import ROOT, clean_text, join_path

MAX_PROPERTIES = 50
MAX_PROPERTY = 1024


@dataclass(frozen=True, slots=True)
class Session:
    """A position in a session: which session, and where in its tree.

    ``id`` and ``path`` are normalised. ``received_path`` is set when the session came from another process
    (baggage): the steps from ``/`` down to it belong to the sender. ``attributes`` is what a span says of it: id,
    path, and name, user, step kind and properties where set.
    """

    id: str
    name: str | None = None
    path: str = ROOT
    user_id: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    step_kind: str | None = None
    received_path: str | None = None
    attributes: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Put the attributes together once for all spans."""
        optional = {names.SESSION_NAME: self.name, names.USER_ID: self.user_id, names.STEP_KIND: self.step_kind}
        found = {
            names.SESSION_ID: self.id,
            names.SESSION_PATH: self.path,
            **{name: value for name, value in optional.items() if value},
            **{names.PROPERTY_PREFIX + name: value for name, value in self.properties.items()},
        }
        object.__setattr__(self, "attributes", found)

    def at(self, name: str, kind: str | None = None) -> Session:
        """The position of the step ``name`` seen from here."""
        return replace(self, path=join_path(self.path, name), step_kind=kind)


def normalize_properties(raw: Mapping[str, str]) -> dict[str, str]:
    """The first 50 properties of ``raw``, values cut at 1,024 characters; what is cut is counted."""
    kept = {clean_text(name): clean_text(value)[:MAX_PROPERTY] for name, value in [*raw.items()][:MAX_PROPERTIES]}
    if len(raw) > MAX_PROPERTIES or any(len(value) > MAX_PROPERTY for value in raw.values()):
        count("property.truncated", "otel-sessions: more than %d properties, or one that is too long", MAX_PROPERTIES)
    return kept


@dataclass(frozen=True, slots=True)
class FlushResult:
    """Where the spans of this process stand, in spans since :func:`otel_sessions.configure`. Each is in one place.

    ``delivered`` are in the store, ``pending`` are still on their way, ``pending_disk`` of them safe in the spool.
    ``dropped`` are lost, ``dropped_reasons`` says why. ``recovered`` spans belong to processes that had ended: this
    one delivered them from the spool; they are in none of the other numbers.
    """

    delivered: int = 0
    pending: int = 0
    dropped: int = 0
    pending_disk: int = 0
    recovered: int = 0
    dropped_reasons: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def pending_memory(self) -> int:
        """Pending spans that a kill of the process would lose."""
        return self.pending - self.pending_disk

    @property
    def ok(self) -> bool:
        """Nothing is pending and nothing was dropped."""
        return self.pending == 0 and self.dropped == 0


def copied(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of a span's attributes: one C call for the SDK's containers, where each look-up is several in Python."""
    if attributes is None:
        return {}
    found: dict[str, Any] = attributes.copy() if hasattr(attributes, "copy") else dict(attributes)
    return found
