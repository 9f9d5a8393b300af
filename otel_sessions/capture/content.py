"""Message content as span attributes. Nothing here runs unless the user turned content on.

Every text passes the user's redaction first, the keys in a tool's arguments and results as well. If that fails, the content is left out and counted: unredacted text
never reaches a span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from otel_sessions.base import names
from otel_sessions.base.guard import count
from otel_sessions.capture.formats.wire import Endpoint, plain

MAX_CONTENT = 1024 * 1024
"""Most bytes of response parts that are kept for content; a longer response is recorded without its messages."""

Redact = Callable[[str], str]
_STRUCTURE = {"type", "id", "name"}


class Recorder:
    """Collects the content of one exchange."""

    __slots__ = ("_endpoint", "_parts", "_redact", "_size")

    def __init__(self, endpoint: Endpoint, redact: Redact | None) -> None:
        self._endpoint = endpoint
        self._redact = redact
        self._parts: list[bytes] = []
        self._size = 0

    def keep(self, part: bytes) -> None:
        """Remember one part of the response."""
        self._size += len(part)
        if self._size <= MAX_CONTENT:
            self._parts.append(part)

    def sent(self, body: bytes) -> dict[str, str]:
        """Attributes of the request ``body``."""
        decoded = plain(body)
        if not isinstance(decoded, Mapping):
            return {}
        conversation = self._endpoint.sent(decoded)
        return self._attributes(
            {names.INPUT_MESSAGES: conversation.messages, names.SYSTEM_INSTRUCTIONS: conversation.system}
        )

    def received(self) -> dict[str, str]:
        """Attributes of the response parts that were kept."""
        if self._size > MAX_CONTENT:
            count(
                "content.too_long",
                "otel-sessions: the messages of a response beyond %d bytes are left out",
                MAX_CONTENT,
            )
            return {}
        parts = [part for part in map(plain, self._parts) if isinstance(part, Mapping)]
        return self._attributes({names.OUTPUT_MESSAGES: self._endpoint.received(parts)})

    def _attributes(self, content: Mapping[str, Sequence[Any]]) -> dict[str, str]:
        redact = self._redact
        try:
            return {
                name: msgspec.json.encode([_message(m, redact) for m in messages] if redact else messages).decode()
                for name, messages in content.items()
                if messages
            }
        except Exception:  # noqa: BLE001 - whatever the user's function raises, nothing unredacted is recorded
            count("content.redact", "otel-sessions: redact failed; the content is left out")
            return {}


def _message(message: Mapping[str, Any], redact: Redact) -> Mapping[str, Any]:
    if "parts" not in message:
        return _part(message, redact)
    return {**message, "parts": [_part(part, redact) for part in message["parts"]]}


def _part(part: Mapping[str, Any], redact: Redact) -> Mapping[str, Any]:
    return {key: value if key in _STRUCTURE else _redacted(value, redact) for key, value in part.items()}


def _redacted(value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        return _checked(redact(value))
    if isinstance(value, list):
        return [_redacted(item, redact) for item in value]
    if isinstance(value, Mapping):
        return {_checked(redact(key)): _redacted(item, redact) for key, item in value.items()}
    return value


def _checked(redacted: object) -> str:
    if not isinstance(redacted, str):
        raise TypeError("redact must return a text")
    return redacted
