"""One LLM exchange under way: from the bytes of the response to the end of the span. No I/O.

:mod:`otel_sessions.capture.request` starts it; the shells in :mod:`otel_sessions.capture.hook` move the bytes
into :attr:`Exchange.chunks` and say how the body ended.
"""

from __future__ import annotations

import json
import time
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from otel_sessions.base.attributes import Plain, set_plain
from otel_sessions.base.guard import caught
from otel_sessions.base.names import (
    BILLABLE,
    BODY_END,
    COST,
    COST_STATUS,
    ERROR_TYPE,
    FINISH_REASONS,
    HTTP_STATUS,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    RAW_USAGE,
    RESPONSE_ID,
    RESPONSE_MODEL,
    RESPONSE_SERVICE_TIER,
    TIME_TO_FIRST_CHUNK,
    WEB_SEARCHES,
)
from otel_sessions.capture import reaper
from otel_sessions.capture.body import Body
from otel_sessions.capture.content import Recorder
from otel_sessions.capture.formats.wire import Answer, mapping, plain
from otel_sessions.capture.target import Target

BATCH = 64 * 1024
"""Bytes of a body that are kept before they are parsed, so that a chunk costs no more than an append."""

_NO_TEXT = ("audio/", "image/", "video/")
_WRITES = ("chat", "text_completion", "generate_content")
_NO_HEADERS: Mapping[str, str] = {}


class Exchange(msgspec.Struct, eq=False, weakref=True):
    """An LLM request under way. ``finish`` may be called by anyone, any number of times; the first one counts.

    A struct, so that the fields that nearly every call leaves as they are cost nothing. The shells deal with ``room``,
    ``chunks`` and ``done``.
    """

    _target: Target
    _span: trace.Span
    _started: int
    """The moment it started, in Unix ns."""
    _clock: int
    """The same moment on the performance counter, in ns."""
    _streamed: bool
    room: int
    """How many bytes may go into ``chunks`` before :meth:`received` is told; see :func:`room_for`."""
    chunks: list[bytes] = msgspec.field(default_factory=list)
    """Where the chunks of the body go as they come over the wire; :meth:`received` is told of them."""
    done: bool = False
    _answer: Answer = msgspec.field(default_factory=Answer)
    _body: Body | None = None
    _readable: bool = True
    _headers: Mapping[str, str] = _NO_HEADERS
    _first: int | None = None
    _status: int | None = None
    _decode: Callable[[bytes], bytes] | None = None
    _recorder: Recorder | None = None

    def record(self, recorder: Recorder, body: bytes | None) -> None:
        """Record content too, of the request now and of the response at the end."""
        self._recorder = recorder
        if body:
            self._span.set_attributes(recorder.sent(body))

    def answered(self, status: int, headers: Mapping[str, str], decode: Callable[[bytes], bytes] | None) -> None:
        """The headers of the response have arrived; its body is decoded with ``decode``."""
        self._status = status
        self._headers = headers
        self._decode = decode
        if self._target.headers is not None:
            self._target.headers(headers, self._answer)

    def received(self, size: int) -> tuple[int, int]:
        """``chunks`` holds ``size`` bytes more than before; of how many, from now on, and when to say so again.

        To be called when :attr:`room` is exceeded, and then what was said.
        """
        if self._first is None:
            self._first = time.perf_counter_ns()
        if size < BATCH:
            return size, BATCH - 1
        if self.done:
            self.chunks.clear()
        else:
            self._parse(self._decoded())
        return 0, BATCH - 1

    def fail(self, error: BaseException, end: str = "none") -> None:
        """The request got no response, or reading its body raised: then ``end`` says so."""
        self.finish("cancelled" if _cancels(error) else end, error)

    def finish(self, end: str, error: BaseException | None = None) -> None:
        """End the span; ``end`` is one of the values of :data:`otel_sessions.base.names.BODY_END`."""
        if self.done:
            return
        now = time.perf_counter_ns()
        try:
            self.done = True
            reaper.closed(self)
            set_plain(self._span, self._conclude(end, error))
        except Exception:  # noqa: BLE001 - telemetry must not break its host
            caught("capture.finish")
        finally:  # also when the host is interrupted in here, by Ctrl-C for one
            try:
                self._span.end(self._started + now - self._clock)
            except Exception:  # noqa: BLE001 - a span processor may be anyone's
                caught("capture.end")
            # A response that the host keeps holds this object: what was recorded need not stay with it.
            self._span, self._recorder = trace.INVALID_SPAN, None

    def _conclude(self, end: str, error: BaseException | None) -> dict[str, Plain]:
        data = self._decoded()
        if self._body is None and data.startswith(b"{") and (b"\n" not in data or b"\n{" not in data):
            self._take(data)  # the everyday case, one document in one batch, needs no framing
        elif self._end_body(data) and end == "closed":
            end = "complete"
        attributes = self._facts()
        attributes[BODY_END] = end
        if error is not None or self._answer.error_type is not None or (self._status or 0) >= 400:
            attributes[ERROR_TYPE] = self._error_type(error)
            self._span.set_status(Status(StatusCode.ERROR))
        if self._recorder is not None:
            attributes.update(self._recorder.received())
        return attributes

    def _end_body(self, data: bytes) -> bool:
        """Parse what is left; whether the stream has said that it is over."""
        self._parse(data)
        body, self._body = self._body, None
        if body is None:
            return False
        try:
            body.end()
        except Exception:  # noqa: BLE001 - a body may be anything
            caught("capture.parse")
        return body.said_done

    def _parse(self, data: bytes) -> None:
        if data and self._body is None:
            self._readable = not self._headers.get("content-type", "").startswith(_NO_TEXT)
            self._body = Body(self._read, self._target.endpoint.telling) if self._readable else None
        if self._body is not None:
            try:
                self._body.add(data)
            except Exception:  # noqa: BLE001 - a body may be anything
                caught("capture.parse")

    def _decoded(self) -> bytes:
        """What was received. A body that the host cannot decode either is not parsed any further."""
        decode = self._decode
        try:
            data = b"".join(self.chunks)
            self.chunks.clear()
            if not self._readable:
                return b""
            return data if decode is None or not data else decode(data)
        except Exception:  # noqa: BLE001 - a body may be anything
            self._readable = False
            return b""

    def _read(self, part: bytes) -> bool:
        """Take a part; whether those that carry but a piece of text, most events of a stream, can be left out now."""
        answer = self._answer
        sated = answer.id is not None and answer.model is not None and self._recorder is None
        if sated and not self._target.endpoint.tells(part):
            return True
        self._take(part)
        return answer.id is not None and answer.model is not None and self._recorder is None

    def _take(self, part: bytes) -> None:
        if self._recorder is not None:
            self._recorder.keep(part)
        try:
            self._target.endpoint.read(part, self._answer)
        except Exception:  # noqa: BLE001 - a body may be anything, nested deeper than Python can follow for one
            caught("capture.parse")

    def _error_type(self, error: BaseException | None) -> str:
        if error is not None:
            return "cancelled" if _cancels(error) else _qualified(type(error))
        if self._status is not None and self._status >= 400:
            return str(self._status)
        return self._answer.error_type or "error"

    def _facts(self) -> dict[str, Plain]:
        answer, status = self._answer, self._status
        found: dict[str, Plain] = {}
        if answer.model is not None:
            found[RESPONSE_MODEL] = answer.model
        if answer.id is not None:
            found[RESPONSE_ID] = answer.id
        if reasons := answer.finish_reasons:
            found[FINISH_REASONS] = tuple(
                [reasons[index] for index in sorted(reasons)] if len(reasons) > 1 else reasons.values()
            )
        if answer.service_tier is not None:
            found[RESPONSE_SERVICE_TIER] = answer.service_tier
        if answer.web_searches is not None:
            found[WEB_SEARCHES] = answer.web_searches
        if self._streamed and self._first is not None:
            found[TIME_TO_FIRST_CHUNK] = (self._first - self._clock) / 1e9
        if status is not None:
            found[HTTP_STATUS] = status
            if 300 <= status < 400:
                found[BILLABLE] = False  # sent elsewhere: no model has answered
        try:
            self._add_usage(found)
        except Exception:  # noqa: BLE001 - what else is known of the call is worth keeping
            caught("capture.usage")
        return found

    def _add_usage(self, found: dict[str, Plain]) -> None:
        answer, endpoint = self._answer, self._target.endpoint
        if answer.cost is not None:
            found[COST] = answer.cost
        if raws := answer.usages or answer.spare:
            usual = endpoint.usual(raws[0]) if len(raws) == 1 else None
            if usual is not None:
                found[RAW_USAGE] = raws[0].decode("utf-8", "replace")
                found |= usual
            else:
                decoded, found[RAW_USAGE] = _merged(raws)
                usage = endpoint.usage(decoded).attributes()
                if answer.service_tier is not None:
                    usage.pop(RESPONSE_SERVICE_TIER, None)  # what stands above the usage wins
                found |= {} if self._is_half(usage) else usage
        elif answer.begun is not None:
            found[RAW_USAGE] = answer.begun.decode("utf-8", "replace")
        if COST in found:
            found[COST_STATUS] = "provided"

    def _is_half(self, usage: Mapping[str, Plain]) -> bool:
        """Whether a stream was cut off when it had stated its input only: that alone is not what it cost."""
        stated = OUTPUT_TOKENS in usage or INPUT_TOKENS not in usage or COST in usage
        ended = bool(self._answer.finish_reasons) or not self._streamed
        return not stated and not ended and self._target.endpoint.operation in _WRITES


def _merged(raws: list[bytes]) -> tuple[Mapping[str, Any], str]:
    """The usage objects as one, and its JSON text: as it stood in the response if there is but one."""
    if len(raws) == 1:
        return mapping(plain(raws[0])), raws[0].decode("utf-8", "replace")
    merged: dict[str, Any] = {}
    for raw in raws:
        merged |= {key: value for key, value in mapping(plain(raw)).items() if value is not None}
    return merged, json.dumps(merged)


def _cancels(error: BaseException) -> bool:
    """Cancellation in asyncio, trio and curio, of which only the first need be installed."""
    return isinstance(error, CancelledError) or type(error).__name__ == "Cancelled"


def _qualified(kind: type[BaseException]) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
