"""AWS event streams (``application/vnd.amazon.eventstream``), as bytes arrive.

A message is its length and that of its headers (4 bytes each), a checksum of these, the headers, the payload and a
checksum of all (https://smithy.io/2.0/aws/amazon-eventstream.html). What is in ``bytes`` of a payload is the model's
own event; of other payloads the event's type is part of the meaning, so they are handed on under it. After a wrong
checksum nothing more is read: there is no way to find the next message.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgspec

_PRELUDE = struct.Struct(">III")
_AROUND = _PRELUDE.size + 4
"""Bytes of a message that are neither headers nor payload."""
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; of the missing two the value begins with its length."""


class EventStream:
    """Takes bytes with :meth:`add`, and calls ``read`` with the JSON of each message no longer than ``longest``."""

    def __init__(self, read: Callable[[bytes], object], longest: int) -> None:
        self._read = read
        self._longest = longest
        self._held = bytearray()
        self._skip = 0
        self._broken = False

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        if self._broken or skipped == len(data):
            return
        self._held += data[skipped:]
        position = 0
        while not self._broken and len(self._held) - position >= _PRELUDE.size:
            size = self._size(position)
            if size > len(self._held) - position:
                position = self._wait(position, size)
                break
            self._message(bytes(self._held[position : position + size]))
            position += size
        del self._held[:position]

    def end(self) -> None:
        """No more bytes come; half a message says nothing."""
        self._held.clear()

    def _size(self, position: int) -> int:
        size, headers, checksum = _PRELUDE.unpack_from(self._held, position)
        right = crc32(self._held[position : position + 8]) == checksum and _AROUND + headers <= size
        self._broken = not right
        return int(size) if right else 0

    def _wait(self, position: int, size: int) -> int:
        """Wait for the rest of a message, or pass by one that is too long. Returns what is done with."""
        if size <= self._longest:
            return position
        self._skip = size - (len(self._held) - position)
        return len(self._held)

    def _message(self, message: bytes) -> None:
        if self._broken or len(message) > self._longest:
            return
        if crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
            self._broken = True
            return
        end = _PRELUDE.size + int.from_bytes(message[4:8], "big")
        part = _part(_headers(message[_PRELUDE.size : end]), message[end:-4])
        if part is not None:
            self._read(part)


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are texts; what follows on a broken one is left out."""
    found: dict[str, str] = {}
    position = 0
    while position + 1 < len(data):
        name_end = position + 1 + data[position]
        kind = data[name_end : name_end + 1]
        start = name_end + 1
        size = _SIZES.get(kind[0]) if kind else None
        if size is None:
            size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        if kind == b"\7":
            found[data[position + 1 : name_end].decode("utf-8", "replace")] = data[start : start + size].decode(
                "utf-8", "replace"
            )
        position = start + size
    return found


class _Payload(msgspec.Struct):
    bytes: Any = None


def _part(headers: dict[str, str], payload: bytes) -> bytes | None:
    """The event as a JSON document; ``None`` of a payload that is no JSON object, but for one that is nested too deep to tell."""
    failure = headers.get(":exception-type") or headers.get(":error-code")
    if failure:
        return json.dumps({"error": {"type": failure}}).encode()
    try:
        with contextlib.suppress(RecursionError):
            inner = msgspec.json.decode(payload, type=_Payload).bytes
            if isinstance(inner, str):
                return base64.b64decode(inner)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        return None
    return b"{%s:%s}" % (json.dumps(headers.get(":event-type", "")).encode(), payload)
