"""The provider on loopback: a server in a thread of its own, which answers like OpenAI, Anthropic and Groq."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from otel_sessions.demo import wire

_THINKING_SECONDS = 0.04
_SECONDS_PER_TOKEN = 0.0008
_SECONDS_PER_EVENT = 0.006


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that the provider answered. ``usage`` is what it sent, None with an error."""

    host: str
    endpoint: str
    model: str
    status: int
    streamed: bool
    usage: wire.Json | None


@dataclass(slots=True)
class Provider:
    """The server; a context manager that starts and stops it.

    The first request for an embedding is refused with 429, as a busy provider would. ``on_exchange`` is called in
    the server's thread, ``exchanges`` has all that were answered so far.
    """

    on_exchange: Callable[[Exchange], None] | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    _cache: set[str] = field(default_factory=set)
    _socket: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        config = uvicorn.Config(
            self._app(), log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="otel-sessions-demo-provider", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()

    def _app(self) -> Starlette:
        handlers = {
            "/v1/chat/completions": self._chat,
            "/v1/responses": self._responses,
            "/v1/embeddings": self._embeddings,
            "/v1/messages": self._messages,
            "/openai/v1/chat/completions": self._groq,
        }
        return Starlette(routes=[Route(path, handler, methods=["POST"]) for path, handler in handlers.items()])

    async def _chat(self, request: Request) -> Response:
        asked, said = await self._think(request)
        if not asked.get("stream"):
            return self._whole(request, said, wire.chat(said))
        wanted = bool((asked.get("stream_options") or {}).get("include_usage"))
        self._log(request, said, 200, wire.chat_usage(said) if wanted else None, streamed=True)
        return _events(wire.chat_stream(said, wire.openai_tail(said, include_usage=wanted)))

    async def _groq(self, request: Request) -> Response:
        _, said = await self._think(request)
        self._log(request, said, 200, wire.groq_usage(said), streamed=True)
        return _events(wire.chat_stream(said, wire.groq_tail(said)))

    async def _messages(self, request: Request) -> Response:
        asked, said = await self._think(request)
        if not asked.get("stream"):
            return self._whole(request, said, wire.messages(said))
        self._log(request, said, 200, wire.messages_usage(said), streamed=True)
        return _events(wire.messages_stream(said))

    async def _responses(self, request: Request) -> Response:
        _, said = await self._think(request)
        return self._whole(request, said, wire.responses(said))

    async def _embeddings(self, request: Request) -> Response:
        _, said = await self._think(request)
        if all(exchange.endpoint != request.url.path for exchange in self.exchanges):
            self._log(request, said, 429, None, streamed=False)
            error = {"message": "Rate limit reached.", "type": "requests", "code": "rate_limit_exceeded"}
            return JSONResponse({"error": error}, 429, headers={"retry-after-ms": "60"})
        return self._whole(request, said, wire.embeddings(said))

    async def _think(self, request: Request) -> tuple[wire.Json, wire.Answer]:
        asked: wire.Json = await request.json()
        said = wire.answer(asked, self._cache)
        written = 0 if asked.get("stream") else said.tokens_out
        await asyncio.sleep(_THINKING_SECONDS + _SECONDS_PER_TOKEN * written)
        return asked, said

    def _whole(self, request: Request, said: wire.Answer, document: wire.Json) -> Response:
        self._log(request, said, 200, document["usage"], streamed=False)
        return JSONResponse(document)

    def _log(self, request: Request, said: wire.Answer, status: int, usage: Any, *, streamed: bool) -> None:
        exchange = Exchange(request.headers["host"], request.url.path, said.model, status, streamed, usage)
        self.exchanges.append(exchange)
        if self.on_exchange is not None:
            self.on_exchange(exchange)


def _events(events: Iterable[str]) -> Response:
    async def paced() -> AsyncIterator[str]:
        for event in events:
            yield event
            await asyncio.sleep(_SECONDS_PER_EVENT)

    return StreamingResponse(paced(), media_type="text/event-stream")
