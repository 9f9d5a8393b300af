"""The place where requests pass: ``_transport_for_url`` of the clients of httpx and httpx2.

The client asks it for the transport of each request, redirects and retries included. For the URL of an LLM end
point it now gets a shell around that transport; for any other the transport itself. So every client is covered,
whatever its transport and whenever it was made, and the client still does all of its own work around ours.
The sync and the async shell only move bytes.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from operator import attrgetter, itemgetter
from typing import Any

from otel_sessions.base.context import detach
from otel_sessions.base.guard import caught
from otel_sessions.capture import reaper
from otel_sessions.capture.exchange import Exchange
from otel_sessions.capture.headers import Items, Raw
from otel_sessions.capture.request import Instrumentation, Sent, begin
from otel_sessions.capture.target import Elsewhere, Target

MODULES = ("httpx", "httpx2")
_lower = itemgetter(1)


class HttpModule:
    """httpx or httpx2: its classes, and how it clones a request and decodes a body."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._decoders = importlib.import_module(f"{module.__name__}._decoders").SUPPORTED_DECODERS
        self.sync_stream, self.async_stream = module.SyncByteStream, module.AsyncByteStream
        self.observed_sync = type("ObservedSyncStream", (_SyncStream, self.sync_stream), {})
        self.observed_async = type("ObservedAsyncStream", (_AsyncStream, self.async_stream), {})
        # In both modules the headers are such a list, of which ``raw`` and ``in`` make another in Python.
        listed = getattr(module.Headers([("A", "b")]), "_list", None) == [(b"A", b"a", b"b")]
        self.items: Callable[[Any], Items] = attrgetter("headers._list") if listed else _items

    def clone(self, request: Any, headers: Raw, body: bytes | None) -> Any:
        """A copy of ``request``: redirects are rebuilt from the original, which must not lose its headers."""
        clone = request.__class__.__new__(request.__class__)
        clone.__dict__.update(request.__dict__)
        clone.headers = self.module.Headers(headers)
        if body is not None:
            clone.stream = self.module.ByteStream(body)
            clone.__dict__["_content"] = body
            clone.headers["Content-Length"] = str(len(body))
        return clone

    def decoder(self, headers: Any) -> Callable[[bytes], bytes] | None:
        """What undoes the content encodings that these headers of a response name; ``None`` if there are none.

        Like the host's own decoding, it leaves out encodings for which no decoder is installed.
        """
        names = (name.strip().lower() for name in headers["content-encoding"].split(","))
        decoders = [self._decoders[name]() for name in names if name in self._decoders and name != "identity"]
        return functools.partial(_decoded, decoders[::-1]) if decoders else None


def _items(message: Any) -> Items:
    return [(name, name.lower(), value) for name, value in message.headers.raw]


def _decoded(decoders: list[Any], data: bytes) -> bytes:
    for decoder in decoders:
        found = decoder.decode(data)
        data = found if isinstance(found, bytes) else b"".join(found)
    return data


class _Shell:
    """Stands for a transport while a request is sent."""

    # One attribute: of a class with ``__getattr__`` a look-up takes four times as long.
    __slots__ = ("_parts",)

    def __init__(self, inner: Any, target: Target | Elsewhere, http: HttpModule, asked: Instrumentation) -> None:
        self._parts = inner, target, http, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts[0], name)


class _SyncShell(_Shell):
    __slots__ = ()

    def handle_request(self, request: Any) -> Any:
        inner, target, http, asked = self._parts
        sent = begin(http, target, request, asked)
        try:
            response = inner.handle_request(sent[0])
        except BaseException as error:
            _failed(sent, error)
            raise
        _after(http, request, sent, response, http.sync_stream, http.observed_sync)
        return response


class _AsyncShell(_Shell):
    __slots__ = ()

    async def handle_async_request(self, request: Any) -> Any:
        inner, target, http, asked = self._parts
        sent = begin(http, target, request, asked)
        try:
            response = await inner.handle_async_request(sent[0])
        except BaseException as error:
            _failed(sent, error)
            raise
        _after(http, request, sent, response, http.async_stream, http.observed_async)
        return response


def _failed(sent: Sent, error: BaseException) -> None:
    _, token, exchange = sent
    try:
        if exchange is not None:
            exchange.fail(error)
    finally:
        if token is not None:
            detach(token)


def _after(  # noqa: PLR0913, PLR0917 - what the sync and the async shell have in hand
    http: HttpModule, request: Any, sent: Sent, response: Any, stream: type, observed: Callable[[Any, Exchange], Any]
) -> None:
    """Have the body of ``response`` seen: now if the transport has read it, else as the host reads it."""
    outgoing, token, exchange = sent
    if token is not None:
        detach(token)
    if exchange is not None:
        try:
            if getattr(response, "_content", None) is None and isinstance(response.stream, stream):
                coded = b"content-encoding" in map(_lower, http.items(response))
                decode = http.decoder(response.headers) if coded else None
                exchange.answered(response.status_code, response.headers, decode)
                response.stream = observed(response.stream, exchange)
            else:
                _read_already(response, exchange)
        except Exception:  # noqa: BLE001 - telemetry must not break its host
            caught("capture.observe")
            exchange.finish("none")
    if outgoing is not request and "_content" not in request.__dict__ and "_content" in outgoing.__dict__:
        # The transport has loaded a body into the copy that the host may have to send again.
        request.__dict__.update(_content=outgoing.__dict__["_content"], stream=outgoing.stream)


def _read_already(response: Any, exchange: Exchange) -> None:
    exchange.answered(response.status_code, response.headers, None)
    content = getattr(response, "_content", None)
    if content is None:
        exchange.finish("none")
    else:
        exchange.chunks.append(content)
        exchange.received(len(content))
        exchange.finish("complete")


class _Stream:
    """The body of a response, seen as it passes. Everything but the bytes' way is the inner stream's."""

    _exchange: Any = None  # a finaliser may run before there is one

    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._inner, self._exchange = inner, exchange
        if not reaper.runs:
            reaper.ensure_thread()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.done:
            reaper.reap(exchange, "abandoned")

    def _closed(self) -> None:
        """The host is through, or a generator of its is finalised; inside the collector nothing may be ended."""
        if reaper.in_collector():
            reaper.reap(self._exchange, "abandoned")
        else:
            self._exchange.finish("closed")


class _SyncStream(_Stream):
    def __iter__(self) -> Iterator[bytes]:
        exchange: Exchange = self._exchange
        keep, size, room = exchange.chunks.append, 0, exchange.room
        try:
            for chunk in self._inner:
                keep(chunk)
                size += len(chunk)
                if size > room:
                    size, room = exchange.received(size)
                yield chunk
        except GeneratorExit:
            if not exchange.done:
                self._closed()
            raise
        except BaseException as error:
            exchange.fail(error, "failed")
            raise
        exchange.finish("complete")

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            if not self._exchange.done:
                self._closed()


class _AsyncStream(_Stream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange: Exchange = self._exchange
        keep, size, room = exchange.chunks.append, 0, exchange.room
        stream = self._inner.__aiter__()
        try:
            async for chunk in stream:
                keep(chunk)
                size += len(chunk)
                if size > room:
                    size, room = exchange.received(size)
                yield chunk
        except GeneratorExit:
            if not exchange.done:
                self._closed()
            raise
        except BaseException as error:
            exchange.fail(error, "failed")
            raise
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        exchange.finish("complete")

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            if not self._exchange.done:
                self._closed()


def patch(module: Any, asked: Instrumentation) -> Callable[[], None]:
    """Put the shells into the clients of ``module``; what is returned takes them out again."""
    http = HttpModule(module)
    undo = [_patch(module.Client, _SyncShell, http, asked), _patch(module.AsyncClient, _AsyncShell, http, asked)]

    def undo_all() -> None:
        for one in undo:
            one()

    return undo_all


def _patch(client: Any, shell: Callable[..., Any], http: HttpModule, asked: Instrumentation) -> Callable[[], None]:
    original = client._transport_for_url  # noqa: SLF001 - the one seam that every request passes
    target_of: Callable[[Any], Target | Elsewhere | None] = asked.targets.at

    @functools.wraps(original)
    def transport_for_url(self: Any, url: Any) -> Any:
        transport = original(self, url)
        try:
            target = target_of(url)
        except Exception:  # noqa: BLE001 - telemetry must not break its host
            caught("capture.target")
            return transport
        return transport if target is None else shell(transport, target, http, asked)

    def undo() -> None:
        nonlocal target_of
        if client._transport_for_url is transport_for_url:  # noqa: SLF001
            client._transport_for_url = original  # noqa: SLF001
        else:
            target_of = _nothing  # someone has patched on top, and still calls ours

    client._transport_for_url = transport_for_url  # noqa: SLF001
    return undo


def _nothing(_url: Any) -> None:
    """No URL is a target."""
