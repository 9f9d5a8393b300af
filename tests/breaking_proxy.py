"""A proxy in front of a server that breaks connections at chosen moments of an INSERT; all else passes."""

from __future__ import annotations

import random
import re
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote_plus

BEFORE = "before"
"""The server sees nothing of the request."""
MIDDLE = "middle"
"""The server gets half of the request."""
AFTER = "after"
"""The server does it all, the client gets no reply."""
HALF_REPLY = "half reply"
"""The server does it all, the client gets half of the reply's head."""
PASS = "pass"
_INSERT = re.compile(r"""INSERT INTO [`"\w.]*\botel_traces\b""")

Choose = Callable[[], str]


def at_random(seed: int, share: float = 0.5) -> Choose:
    """Break a ``share`` of the requests, each way equally often."""
    rng = random.Random(seed)
    return lambda: rng.choice((BEFORE, MIDDLE, AFTER, HALF_REPLY)) if rng.random() < share else PASS


class BreakingProxy(socketserver.ThreadingTCPServer):
    """Forwards HTTP to ``upstream``; asks ``choose`` what to do with each INSERT; ``seen`` counts what it did."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream: int, choose: Choose) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.choose = choose
        self.seen: Counter[str] = Counter()
        self.away = False
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def decide(self) -> str:
        with self.lock:
            decision = self.choose()
            self.seen[decision] += 1
            return decision

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for."""


class _Handler(socketserver.BaseRequestHandler):
    server: BreakingProxy

    def handle(self) -> None:
        if self.server.away:
            return
        with socket.create_connection(("127.0.0.1", self.server.upstream), timeout=60) as upstream:
            client: socket.socket = self.request
            client.settimeout(60)
            while (request := _message(client)) is not None and not self.server.away:
                if not self._pass_on(request, client, upstream):
                    return

    def _pass_on(self, request: bytes, client: socket.socket, upstream: socket.socket) -> bool:
        head = unquote_plus(request[:4096].decode("latin-1"))
        decision = self.server.decide() if _INSERT.search(head) else PASS
        if decision == BEFORE:
            return False
        upstream.sendall(request[: len(request) // 2] if decision == MIDDLE else request)
        if decision == MIDDLE:
            return False
        reply = _message(upstream)
        if reply is None or decision == AFTER:
            return False
        client.sendall(reply[:20] if decision == HALF_REPLY else reply)
        return decision == PASS


def _message(connection: socket.socket) -> bytes | None:
    """One whole HTTP/1.1 message; None if the other side closed."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        if not _more(connection, data):
            return None
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    fields = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        while not data.endswith(b"0\r\n\r\n"):
            if not _more(connection, data):
                return None
        return bytes(data)
    missing = int(fields.get(b"content-length", b"0")) - len(rest)
    while missing > 0:
        before = len(data)
        if not _more(connection, data):
            return None
        missing -= len(data) - before
    return bytes(data)


def _more(connection: socket.socket, data: bytearray) -> bool:
    part = connection.recv(262_144)
    data += part
    return bool(part)


@contextmanager
def breaking(upstream: int, choose: Choose) -> Iterator[BreakingProxy]:
    """A proxy for the time of the block."""
    with BreakingProxy(upstream, choose) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
