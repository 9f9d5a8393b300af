"""Path grammar, and the ids that follow from a session id and a path.

``/`` is the session itself. Segments are separated by ``/``; a leading slash is added, a trailing one and empty
segments are dropped; ``%2F`` puts a slash inside a name. The same rules stand in SQL
(``store/schema``) and are tested against this module.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from functools import lru_cache

from otel_sessions.base.guard import count

ROOT = "/"
MAX_SEGMENT = 128
MAX_DEPTH = 32
MAX_PATH = 1024
MAX_ID = 256


def normalize_path(raw: str) -> str:
    """``raw`` in canonical form: ``a//b/`` becomes ``/a/b``, the empty string ``/``.

    Lengths are in characters. What exceeds a limit is cut, counted as ``path.truncated`` and warned of.
    """
    return _cached_path(raw) if len(raw) <= MAX_PATH else _canonical(raw)


def _canonical(raw: str) -> str:
    segments = [segment.replace("%2f", "%2F") for segment in clean_text(raw).split("/") if segment]
    kept = [segment[:MAX_SEGMENT] for segment in segments[:MAX_DEPTH]]
    path = ("/" + "/".join(kept))[:MAX_PATH].rstrip("/") or ROOT
    if len(segments) > MAX_DEPTH or len(path) < 1 + sum(map(len, segments)) + max(0, len(segments) - 1):
        count("path.truncated", "otel-sessions: a session path exceeded its limits and was cut to %.80r…", path)
    return path


_cached_path = lru_cache(maxsize=4096)(_canonical)


def join_path(base: str, name: str) -> str:
    """Path of the step ``name`` inside ``base``: relative names are appended, ``/a/b`` is absolute."""
    return normalize_path(name if name.startswith("/") else f"{base}/{name}")


@lru_cache(maxsize=4096)
def lineage(path: str) -> tuple[str, ...]:
    """The normalised ``path`` and all above it, root first: ``/a/b`` gives ``("/", "/a", "/a/b")``."""
    if path == ROOT:
        return (ROOT,)
    segments = path[1:].split("/")
    return (ROOT, *("/" + "/".join(segments[: depth + 1]) for depth in range(len(segments))))


def segment_name(path: str) -> str:
    """Last segment of ``path`` as people read it, ``%2F`` shown as a slash; ``/`` for the session itself."""
    return path.rsplit("/", 1)[1].replace("%2F", "/") or ROOT


def normalize_id(raw: str) -> str:
    """Session or user id, or session name, without surrounding blanks, at most 256 characters."""
    text = clean_text(raw).strip()
    if len(text) > MAX_ID:
        count("id.truncated", "otel-sessions: an id or a name longer than %d characters was cut", MAX_ID)
        return text[:MAX_ID].rstrip()
    return text


def clean_text(raw: str) -> str:
    """``raw`` with lone surrogates as ``?``: they cannot be encoded, so propagators and exporters would raise on them."""
    return raw if raw.isascii() else raw.encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=4096)
def session_trace_id(session_id: str) -> int:
    """Trace id of a session: first 16 bytes of SHA-256 of the id in UTF-8; 1 in place of 0."""
    return int.from_bytes(_sha256(session_id)[:16], "big") or 1


@lru_cache(maxsize=8192)
def step_span_id(session_id: str, path: str) -> int:
    """Span id of a step: first 8 bytes of SHA-256 of id, line feed, path in UTF-8; 1 in place of 0."""
    return int.from_bytes(_sha256(f"{session_id}\n{path}")[:8], "big") or 1


def new_session_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | random
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
