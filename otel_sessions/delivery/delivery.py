"""The stages as one span processor, and its life: threads, forks, the end of the process."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import get_ident

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otel_sessions.base.errors import SpoolError
from otel_sessions.base.group import SpanGroup
from otel_sessions.base.guard import count, guarded, say
from otel_sessions.base.threads import Running, new_lock, start_thread
from otel_sessions.base.values import FlushResult
from otel_sessions.delivery.batch import (
    Confirm,
    Destination,
    Encode,
    Finish,
    Limits,
    Recipe,
    Send,
    Stage,
    remade,
)
from otel_sessions.delivery.batcher import Batcher
from otel_sessions.delivery.intake import Intake
from otel_sessions.delivery.ledger import Ledger
from otel_sessions.delivery.metrics import observe
from otel_sessions.delivery.outbox import Outbox
from otel_sessions.delivery.packing import Waiting, pack, unpack
from otel_sessions.delivery.sender import Sender
from otel_sessions.delivery.spool import Spool, SpoolPlace

_PUSH_ATTEMPTS = 3
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """The stages of one process; a forked child makes its own."""

    intake: Intake
    ledger: Ledger
    outbox: Outbox
    batcher: Batcher
    sender: Sender


class Delivery(SpanProcessor):
    """Sends every span that ends to one destination, in batches, off the caller's thread.

    ``destination`` names it in the log. ``send`` gets spans, or with ``encode`` its pieces of bytes. ``spool`` keeps
    batches on disk until they are sent, and needs ``encode``. ``confirm`` is asked before a batch is sent again long
    after. ``finish`` is called when a flush, or the end, has sent everything.
    ``numbered`` spans carry their number, for the view ``session_completeness``.
    The threads start with the first span, or at once if the spool holds something. A forked child starts empty, with
    threads of its own, and leaves the parent's spans to the parent.
    """

    def __init__(  # noqa: PLR0913 - a destination and what to do on the way there
        self,
        destination: str,
        send: Send,
        *,
        stages: tuple[Stage, ...] = (),
        limits: Limits | None = None,
        encode: Encode | None = None,
        spool: SpoolPlace | None = None,
        confirm: Confirm | None = None,
        finish: Finish | None = None,
        numbered: bool = False,
    ) -> None:
        if spool is not None and encode is None:
            raise ValueError("a spool keeps bytes: give encode")
        self._limits = limits or Limits()
        self._recipe = Recipe(self._limits, encode or _pack_all, stages, numbered)
        self._destination = Destination(destination, send if encode else _unpacking(send), confirm, finish)
        self._place = spool
        self._closed = False
        self._ended = False
        self._reset()
        _ALIVE.add(self)
        observe(destination, weakref.WeakMethod(self.result))
        if spool is not None:
            self._recover()

    def _reset(self) -> None:
        self._threads: tuple[Running, ...] = ()
        self._started: dict[str, Running] = {}
        self._runners: dict[str, int] = {}
        self._starting = new_lock()
        self._delivering = threading.Lock()
        intake = Intake(self._limits.queue_size)
        ledger = Ledger(intake)
        outbox = Outbox(ledger, Spool(self._place) if self._place else None, self._limits)
        sender = Sender(self._destination, ledger, outbox)
        batcher = Batcher(self._recipe, ledger, outbox, sender.wake)
        self._parts = _Parts(intake, ledger, outbox, batcher, sender)

    def on_end(self, span: ReadableSpan) -> None:
        """Take ``span`` if it is sampled; when the queue is full it is dropped and counted."""
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        parts = self._parts
        if self._closed:
            parts.intake.refuse(span, "closed")
            return
        waiting = parts.intake.offer(span)
        if not self._threads:
            self.start()
        if waiting == parts.batcher.group:
            parts.batcher.nudge()

    def deliver(self, spans: Sequence[ReadableSpan], timeout: float, room: int = 0) -> bool:
        """Take ``spans`` on the caller's thread, which waits until all but ``room`` are safe; False if some were dropped.

        Safe is on disk, or at the destination. A slow destination is waited for ``timeout`` seconds, one that fails
        two; what is not safe then is dropped.
        """
        with self._delivering:
            ledger, lost = self._parts.ledger, self.result().dropped
            if self._closed:
                for span in spans:
                    self._parts.intake.refuse(span, "closed")
                return False
            if not self._threads:
                self.start()
            self._parts.batcher.accept(spans)
            if ledger.in_memory() > room:
                self._hurry(lambda: ledger.in_memory() <= room or ledger.failing, timeout)
                self._hurry(lambda: ledger.in_memory() <= room, min(timeout, _PATIENCE_SECONDS))
            if ledger.in_memory() > room and (given_up := self._parts.outbox.give_up("export")):
                count("dropped.export", "otel-sessions: %d spans for %s dropped", given_up, self._destination.name)
            return self.result().dropped == lost

    def arrive(self, timeout: float = 30.0) -> None:
        """Send what is waiting now and wait until it arrived, unless the destination does not take it."""
        ledger = self._parts.ledger
        self._hurry(lambda: ledger.failing or not ledger.pending(), timeout)

    def flush(self, timeout: float) -> FlushResult:
        """Send what is waiting now and wait until it arrived or was dropped, at most ``timeout`` seconds."""
        ledger = self._parts.ledger
        self._hurry(lambda: not ledger.pending() and not ledger.unfinished, timeout, finish=True)
        return self.result()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True if nothing is pending after at most ``timeout_millis``."""
        return self.flush(timeout_millis / 1000).pending == 0

    def result(self) -> FlushResult:
        """Where the spans stand now."""
        if self._ended:
            # A thread that was inside on_end during the shutdown may have put its span in too late.
            self._parts.ledger.drop_waiting("closed")
        return self._parts.ledger.result()

    def shutdown(self, timeout: float = 5.0) -> None:
        """Send what is waiting for at most ``timeout`` seconds, and take no more spans: :meth:`settle`, :meth:`close`."""
        deadline = time.monotonic() + timeout
        self.settle(timeout)
        self.close(max(0.0, deadline - time.monotonic()))

    def settle(self, timeout: float) -> None:
        """Send what is waiting now, for at most ``timeout`` seconds; what ends meanwhile is taken, and not waited for.

        With a spool, where what is left stays for the next process, this does not wait for a destination that is away.
        """
        if self._closed:
            return
        ledger = self._parts.ledger
        if self._parts.outbox.take_back():
            ledger.failing = False  # whoever held the store may be gone: ask once more
        made = _made(ledger.result())
        self._hurry(lambda: self._is_safe(_made(ledger.result()) - made), timeout, finish=True)

    def close(self, timeout: float) -> None:
        """Take no more spans; send for at most ``timeout`` seconds what has come since :meth:`settle`.

        What is left stays in the spool; without a spool it is dropped and counted. Called again after it was interrupted, it
        goes on.
        """
        if self._ended:
            return
        deadline = time.monotonic() + timeout
        if not self._closed:
            self._hurry(self._is_safe, timeout, finish=True)
        self._closed = True
        parts = self._parts
        parts.batcher.close()
        parts.sender.close()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        # Here and not in a thread: at the end of the interpreter no thread may have been started at all.
        with guarded("shutdown"):
            parts.batcher.drain()
            if lost := parts.outbox.close("shutdown"):
                count(
                    "dropped.shutdown",
                    "otel-sessions: %d spans for %s dropped (shutdown)",
                    lost,
                    self._destination.name,
                )
        self._ended = True
        self._report_end()

    def _is_safe(self, later: int = 0) -> bool:
        """All but the ``later`` spans that ended last have arrived, or are on disk where the destination is away."""
        ledger = self._parts.ledger
        kept = self._place is not None and ledger.failing and ledger.in_memory() <= later
        return kept or (ledger.pending() <= later and not ledger.unfinished)

    def _hurry(self, reached: Callable[[], bool], timeout: float, *, finish: bool = False) -> None:
        parts = self._parts
        if not self._threads and parts.ledger.pending():
            self.start()
        if self._threads:
            who = object()
            try:
                parts.sender.hurry(who, finish=finish)
                parts.batcher.wake()
                parts.ledger.wait_for(reached, timeout)
            finally:
                parts.sender.calm(who)

    def start(self) -> None:
        """Start the threads, which else start with the first span. Where there can be none now, the next span tries again."""
        # Who is here already may be another thread, or what a signal handler of the host has interrupted.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._threads or self._closed:
                return
            parts = self._parts
            runs = {"otel-sessions-batches": parts.batcher.run, "otel-sessions-delivery": parts.sender.run}
            # Daemons: a destination that hangs must not keep the host from ending.
            for name, run in runs.items():
                if name not in self._started and (thread := start_thread(partial(self._once, name, run), name)):
                    self._started[name] = thread
            if len(self._started) == len(runs):
                self._threads = tuple(self._started.values())
            else:
                # If the interpreter is ending, shutdown() does the work in the thread that calls it.
                count("thread.refused", "otel-sessions: no thread can be started; spans wait in memory until one can")
        finally:
            self._starting.release()

    def _once(self, name: str, run: Callable[[], None]) -> None:
        """``run``, unless a :meth:`start` that was interrupted has it running already: each loop is for one thread."""
        if self._runners.setdefault(name, get_ident()) == get_ident():
            with suppress_instrumentation():
                run()

    def _recover(self) -> None:
        """Start at once if earlier processes left something to send."""
        with guarded("spool"):
            assert self._place is not None  # noqa: S101 - for the type checker
            spool = Spool(self._place)
            try:
                if not spool.is_empty():
                    self.start()
            except SpoolError as error:
                count("spool.failed", "otel-sessions: cannot spool to disk, batches wait in memory: %s", error)
            finally:
                spool.close()

    def _report_end(self) -> None:
        result = self.result()
        if result.dropped:
            reasons = ", ".join(f"{reason} {spans}" for reason, spans in result.dropped_reasons.items())
            say(
                logging.WARNING,
                "otel-sessions: of %d spans for %s %d were dropped: %s",
                _made(result),
                self._destination.name,
                result.dropped,
                reasons,
            )
        if result.pending_disk:
            message = "otel-sessions: %d spans for %s stay in the spool"
            say(logging.INFO, message, result.pending_disk, self._destination.name)


def push(
    place: SpoolPlace,
    send: Send,
    *,
    confirm: Confirm | None = None,
    report: Callable[[FlushResult], object] | None = None,
) -> FlushResult:
    """Send what ended processes left in the spool, until nothing is left or the destination fails.

    ``report`` is called after each batch. The result counts recovered spans; batches of running processes stay theirs.
    Raises :class:`SpoolError` if the spool cannot be used.
    """
    spool = Spool(place)
    spool.adopt()
    ledger = Ledger(Intake(0))
    outbox = Outbox(ledger, spool)
    sender = Sender(Destination(place.store, send, confirm), ledger, outbox)
    with suppress_instrumentation():
        while sender.send_next(attempts=_PUSH_ATTEMPTS) and not sender.failing:
            if report is not None:
                report(ledger.result())
    outbox.close("push")
    return ledger.result()


def _made(result: FlushResult) -> int:
    return result.delivered + result.pending + result.dropped


def _pack_all(groups: Sequence[SpanGroup]) -> list[Waiting]:
    return [
        pack(remade(span, attributes, span.events, span.links))
        for group in groups
        for span, attributes in zip(group.spans, group.rows(), strict=True)
    ]


def _unpacking(send: Send) -> Send:
    return lambda body, token: send([unpack(span) for piece in body for span in piece], token)


_ALIVE: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _after_fork() -> None:
    for delivery in tuple(_ALIVE):
        delivery._reset()  # noqa: SLF001 - same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
