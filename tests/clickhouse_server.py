"""ClickHouse's HTTP interface over a chDB engine, in a process of its own: enough of it for clickhouse-connect and Go.

``python clickhouse_server.py FOLDER [PORT]`` prints its port once it listens. Each request runs on an engine handle
of its own, with the request's settings SET on it, as a server gives each request a context.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

# What stands in a request's URL and is no setting.
_TRANSPORT = {
    "query", "database", "default_format", "query_id", "session_id", "session_timeout", "session_check", "user",
    "password", "quota_key", "role", "compress", "decompress", "client_protocol_version", "wait_end_of_query",
    "buffer_size", "enable_http_compression", "send_progress_in_http_headers", "http_headers_progress_interval_ms",
}  # fmt: skip
_INSERT = re.compile(
    rb"^\s*INSERT\s+INTO\s+(?P<into>.+?)\s+FORMAT\s+(?P<format>\w+)[ \t]*\n?", re.IGNORECASE | re.DOTALL
)
_STATUS_OF_CODE = {60: 404, 81: 404, 516: 403, 497: 403, 62: 400}


@dataclass(frozen=True)
class Server:
    """A running server; ``process`` may be killed and started again by a test."""

    process: subprocess.Popen[str]
    port: int
    folder: Path

    def dsn(self, database: str = "") -> str:
        """DSN of a database on it, one of the caller's own by default."""
        return f"http://127.0.0.1:{self.port}/{database or 't' + uuid.uuid4().hex}"


@contextmanager
def running(folder: Path, port: int = 0) -> Iterator[Server]:
    """A server on ``folder`` for the time of the block; port 0 is any free one."""
    command = [sys.executable, __file__, str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().strip()
            assert line.isdigit(), "the server did not start"
            yield Server(process, int(line), folder)
        finally:
            process.kill()
            process.wait()


def ping(port: int) -> bool:
    """True if a server answers at ``port``."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as response:
        return bool(response.read() == b"Ok.\n")


def run(folder: str, text: bytes, body: bytes, query: Mapping[str, str]) -> bytes:
    """What the engine answers to one request. Raises RuntimeError with ClickHouse's message."""
    handle = _connect(folder)
    try:
        if database := query.get("database"):
            handle.query(f"USE `{database}`")
        for name, setting in query.items():
            if name not in _TRANSPORT and not name.startswith("param_"):
                handle.query(f"SET {name} = '{_escaped(setting)}'")
        parameters = {name.removeprefix("param_"): value for name, value in query.items() if name.startswith("param_")}
        insert = _INSERT.match(text or body)
        if insert and (data := (text or body)[insert.end() :] + (body if text else b"")):
            return _insert(handle, insert["into"].decode(), insert["format"].decode(), data)
        statement = (text + body).decode()
        if "client_protocol_version" in query:
            return _versioned(handle.query(statement, "JSONCompact").bytes())
        return bytes(handle.query(statement, query.get("default_format", "TabSeparated"), params=parameters).bytes())
    finally:
        handle.close()


def _connect(folder: str) -> Any:
    import chdb

    return chdb.connect(folder)  # type: ignore[no-untyped-call]


def _insert(handle: Any, into: str, kind: str, data: bytes) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".data") as file:
        file.write(data)
        file.flush()
        into, _, settings = re.sub(r"\s+", " ", into).partition(" SETTINGS ")
        clause = f" SETTINGS {settings}" if settings else ""
        handle.query(f"INSERT INTO {into} FROM INFILE '{file.name}'{clause} FORMAT {kind}")
    return b""


def _versioned(result: bytes) -> bytes:
    """A result as the Go driver asks for it: Native with what later protocol versions put before block and columns.

    The engine writes version 0 alone. The driver reads strings and one number: who the server is, a table's columns.
    """
    found = json.loads(result)
    block = b"\x01\x00\x02\xff\xff\xff\xff\x00" + _varint(len(found["meta"])) + _varint(len(found["data"]))
    for at, column in enumerate(found["meta"]):
        encode = _ENCODERS[column["type"]]
        block += _text(column["name"]) + _text(column["type"]) + b"\x00"
        block += b"".join(encode(row[at]) for row in found["data"])
    return block


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


def _text(value: str) -> bytes:
    return _varint(len(value.encode())) + value.encode()


def _four_bytes(value: int) -> bytes:
    return value.to_bytes(4, "little")


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {"String": _text, "UInt32": _four_bytes}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def serve(folder: str, port: int, credentials: str) -> None:
    """Serve until killed."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.routing import Route

    # The engine shuts down with its last handle, and starting it takes 100 ms.
    anchor = _connect(folder)
    anchor.query("SELECT 1")

    async def answer(request: Request) -> Response:
        if not _allowed(request.headers.get("authorization", ""), credentials):
            return _failed("Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
        body = _decoded(await request.body(), request.headers.get("content-encoding", ""))
        text = request.query_params.get("query", "").encode()
        try:
            result = await run_in_threadpool(run, folder, text, body, dict(request.query_params))
        except Exception as error:  # noqa: BLE001 - what the engine says is the answer
            return _failed(str(error))
        headers = {"X-ClickHouse-Summary": "{}", "X-ClickHouse-Timezone": "UTC"}
        named = re.search(rb"FORMAT\s+(\w+)\s*;?\s*$", text + body[-200:], re.IGNORECASE)
        if result or named:
            headers["X-ClickHouse-Format"] = named[1].decode() if named else "TabSeparated"
        return Response(result, headers=headers)

    async def pong(_request: Request) -> Response:
        return Response("Ok.\n")

    listener = socket.create_server(("127.0.0.1", port))
    app = Starlette(routes=[Route("/ping", pong), Route("/", answer, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    print(listener.getsockname()[1], flush=True)  # noqa: T201 - the parent reads it
    server.run(sockets=[listener])


def _failed(message: str) -> Response:
    start = max(message.find("Code: "), 0)
    code = int(found[1]) if (found := re.search(r"Code: (\d+)", message)) else 1000
    return Response(
        message[start:] + "\n",
        _STATUS_OF_CODE.get(code, 500),
        {"X-ClickHouse-Exception-Code": str(code)},
    )


def _allowed(header: str, credentials: str) -> bool:
    return not credentials or header == "Basic " + base64.b64encode(credentials.encode()).decode()


def _decoded(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "lz4":
            import lz4.frame

            return bytes(lz4.frame.decompress(body))
        case "gzip":
            import gzip

            return gzip.decompress(body)
        case _:
            return body


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3] if len(sys.argv) > 3 else "")
