"""From the bytes of a response body to its parts: a JSON document, items of an array, lines, or events.

What a body is shows in its first bytes, not in its content type, which is often wrong. Memory is bounded: of a
document or event beyond :data:`MAX_PART` only the two ends are kept, and the fields that are wanted are looked for in
them. The result does not depend on where the chunks were split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from otel_sessions.capture.eventstream import EventStream
from otel_sessions.capture.formats.wire import shallow

MAX_PART = 4 * 1024 * 1024
END = 64 * 1024
_FIRST_WANTED = (b"id", b"model")
_LAST_WANTED = (
    b"model", b"modelVersion", b"responseId", b"usage", b"usageMetadata", b"meta", b"prompt_eval_count", b"eval_count",
)  # fmt: skip
_BLANK = b" \t\r\n\xef\xbb\xbf"

Read = Callable[[bytes], object]


class Body:
    """Takes decoded bytes with :meth:`add`, and calls ``read`` with every part, at the latest in :meth:`end`.

    With ``telling``, once ``read`` has returned True, events in which it is not found may be left out.
    """

    __slots__ = ("_framing", "_read", "_telling")

    def __init__(self, read: Read, telling: re.Pattern[bytes] | None = None) -> None:
        self._read = read
        self._telling = telling
        self._framing: _Document | _Events | EventStream | None = None

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._framing is None:
            data = data.lstrip(_BLANK)
            if not data:
                return
            self._framing = _framing(data[:1], self._read, self._telling)
        self._framing.add(data)

    @property
    def said_done(self) -> bool:
        """Whether the stream has said that it is over: some SDKs close it then, without reading to the end."""
        return isinstance(self._framing, _Events) and self._framing.said_done

    def end(self) -> None:
        """No more bytes come."""
        if self._framing is not None:
            self._framing.end()


def _framing(first: bytes, read: Read, telling: re.Pattern[bytes] | None) -> _Document | _Events | EventStream:
    if first in {b"{", b"["}:
        return _Document(read)
    # The length of a message comes first, and none is as long as 16 MiB.
    return EventStream(read, MAX_PART) if first == b"\0" else _Events(read, telling)


class _Buffer:
    """Bytes up to :data:`MAX_PART`; beyond that only the first and the last :data:`END`."""

    __slots__ = ("_head", "_pieces", "_size", "_tail")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._head: bytes | None = None
        self._tail = b""

    def __len__(self) -> int:
        return self._size

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._head is not None:
            self._tail = (self._tail + data)[-END:]
            return
        self._pieces.append(data)
        if self._size > MAX_PART:
            everything = b"".join(self._pieces)
            self._head, self._tail = everything[:END], everything[-END:]
            self._pieces.clear()

    def complete(self) -> bool:
        """Whether nothing had to be left out."""
        return self._head is None

    def part(self) -> bytes:
        """What was added; of too much, a document of the wanted fields that its ends hold."""
        return b"".join(self._pieces) if self._head is None else _from_ends(self._head, self._tail)


class _Document:
    """One JSON document, an array whose items are the parts, or documents each on a line of its own.

    Lines are told by the first one: no line end stands inside a document that one line holds.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._buffer = _Buffer()
        self._lines: bool | None = None

    def add(self, data: bytes) -> None:
        if self._lines is None:
            first, newline, rest = data.partition(b"\n")
            self._buffer.add(first)
            if not newline:
                return
            self._lines = self._buffer.complete() and _is_document(self._buffer.part())
            data = newline + rest
        if self._lines:
            self._add_lines(data)
        else:
            self._buffer.add(data)

    def _add_lines(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._buffer.add(line)
            self._take()
        self._buffer.add(rest)

    def _take(self) -> None:
        data = self._buffer.part()
        self._buffer.clear()
        if data.strip():
            self._read(data)

    def end(self) -> None:
        data = self._buffer.part()
        if not data.startswith(b"["):
            self._take()
            return
        for item in _items(data):
            self._read(item)


def _is_document(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=_Object)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    except RecursionError:
        return _is_document(shallow(line))
    return True


class _Object(msgspec.Struct):
    """Any JSON object."""


class _Events:
    """Server-sent events: the data of each is a part. https://html.spec.whatwg.org/multipage/server-sent-events.html."""

    def __init__(self, read: Read, telling: re.Pattern[bytes] | None) -> None:
        self._read = read
        self._telling = telling
        self._sated = False
        self._rest = _Buffer()
        self._held = b""
        self._data: list[bytes] = []
        self._size = 0
        self.said_done = False

    def add(self, data: bytes) -> None:
        data = self._held + data
        # A carriage return at the very end may be half a line end.
        self._held = b"\r" if data.endswith(b"\r") else b""
        self._lines(data[: len(data) - len(self._held)])

    def _lines(self, data: bytes) -> None:
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, newline, rest = data.partition(b"\n")
        self._rest.add(first)
        if not newline:
            return
        self._line(self._rest.part())
        self._rest.clear()
        whole, end, rest = rest.rpartition(b"\n\n")
        if end:
            self._events(whole)
        *lines, last = rest.split(b"\n")
        for line in lines:
            self._line(line)
        if last:
            self._rest.add(last)

    def _events(self, text: bytes) -> None:
        """``text`` is events, all of them whole, but for the first, which may have begun before."""
        start = 0
        while start <= len(text):
            end = text.find(b"\n\n", start)
            end = len(text) if end < 0 else end
            self._event(text[start:end])
            start = end + 2
            if self._sated and self._telling is not None:
                start = _next_event(text, start, self._telling)

    def _event(self, event: bytes) -> None:
        if event.startswith(b"data: {") and b"\n" not in event and not self._data and len(event) <= MAX_PART:
            self._pass_on(event[6:].strip())  # nearly every event is one line, which needs no putting together
            return
        for line in event.split(b"\n"):
            self._line(line)
        self._line(b"")

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= MAX_PART:
                self._data.append(line[5:])
        elif line.startswith(b"{"):
            self._pass_on(line)  # what is left of an event beyond the limit, or JSON lines
        elif not line and self._data:
            self._dispatch()

    def _pass_on(self, part: bytes) -> None:
        self._sated = self._read(part) is True

    def _dispatch(self) -> None:
        lines = self._data
        if len(lines) > 1:
            whole = b"\n".join(lines)
            # Some servers forget the blank line between events; each is a document then, and all together are none.
            lines = [whole] if _is_document(whole) else lines
        self._data = []
        self._size = 0
        for line in lines:
            data = line.strip()
            if data.startswith(b"{"):
                self._pass_on(data)
            self.said_done = self.said_done or data == b"[DONE]"

    def end(self) -> None:
        # Clients differ on an event without its blank line; a provider that sends usage last may well forget it.
        self._lines(self._held + b"\n\n")


def _next_event(text: bytes, start: int, telling: re.Pattern[bytes]) -> int:
    """Where in ``text`` the next event begins that may say something, or the end of the stream; beyond it if none does.

    One search over all is three times as fast as splitting, and a search in each event.
    """
    match = telling.search(text, start)
    told = match.start() if match else len(text)
    done = text.find(b"[DONE]", start, told)
    found = told if done < 0 else done
    if found == len(text):
        return found + 1
    before = text.rfind(b"\n\n", start, found)
    return start if before < 0 else before + 2


def _items(data: bytes) -> list[bytes]:
    try:
        return [bytes(item) for item in msgspec.json.decode(data, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _whole_items(data.decode("utf-8", "replace"))
    except RecursionError:
        return _items(shallow(data))


def _whole_items(text: str) -> list[bytes]:
    """The items of an array that was cut off."""
    items, position = [], 1
    decoder = json.JSONDecoder()
    while match := _ITEM.match(text, position):
        try:
            _, position = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            break
        items.append(text[match.end() : position].encode())
    return items


_ITEM = re.compile(r"[\s,]*(?=\{)")


def _from_ends(head: bytes, tail: bytes) -> bytes:
    """The wanted fields as a JSON object. Usage comes last in nearly every answer (Jina's begin with it), an id first."""
    found = {name: _value(head, head.find(_key(name)), name) for name in _FIRST_WANTED}
    for name in _LAST_WANTED:
        if found.get(name) is None:
            stated = _value(tail, tail.rfind(_key(name)), name)
            found[name] = _value(head, head.find(_key(name)), name) if stated is None else stated
    return json.dumps({name.decode(): value for name, value in found.items() if value is not None}).encode()


def _key(name: bytes) -> bytes:
    return b'"' + name + b'"'


def _value(data: bytes, position: int, name: bytes) -> Any:
    """The value that follows the key ``name`` at ``position``; ``None`` where there is none."""
    if position < 0:
        return None
    text = data[position + len(name) + 2 :].decode("utf-8", "replace").lstrip()
    if not text.startswith(":"):
        return None
    try:
        return json.JSONDecoder().raw_decode(text[1:].lstrip())[0]
    except (ValueError, RecursionError):
        return None
