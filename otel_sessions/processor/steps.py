"""Which steps this process uses, and when each is ready to be exported. Bookkeeping only: no clock, no lock, no I/O.

A step is in use while a block or a span at its path or below it is open. It becomes ready once: when the last block
of its session has closed and it is not in use; when it was not used for a while; at a flush; at the end; or when
memory is short. What was exported is remembered, within bounds, so that it is not exported again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext

from otel_sessions.base.paths import lineage, step_span_id
from otel_sessions.base.values import Session

MAX_STEPS = 65_536
"""Steps, exported steps and open spans that are remembered at once, each."""
MAX_LINKS = 128

SpanKey = tuple[int, int]


class Origin(NamedTuple):
    """Where a step's spans come from, and its own span goes to."""

    processor: SpanProcessor
    resource: Resource


class SpanStart(NamedTuple):
    """A span that started; ``link`` is its context if it lies in another trace than its session."""

    session: Session
    key: SpanKey
    time: int
    origin: Origin | None
    link: SpanContext | None


@dataclass(slots=True, eq=False)
class Step:
    """One path of one session; times are Unix nanoseconds, ``touched`` is the ledger's clock in seconds."""

    path: str
    session: Session
    origin: Origin | None
    start: int
    end: int
    touched: float = 0.0
    in_use: int = 0
    kind: str | None = None
    live: bool = True
    links: BoundedList[Link] | None = None

    def used(self, nanoseconds: int, now: float) -> None:
        """Extend the step to ``nanoseconds``; ``now`` is when it was last used."""
        if nanoseconds < self.start:  # noqa: PLR1730 - min() and max() cost a microsecond per span here
            self.start = nanoseconds
        if nanoseconds > self.end:  # noqa: PLR1730
            self.end = nanoseconds
        self.touched = now

    def link(self, context: SpanContext) -> None:
        """Remember that ``context``, a span of another trace, worked for this step; of too many, the newest."""
        if self.links is None:
            self.links = BoundedList(MAX_LINKS)
        self.links.append(Link(context))


@dataclass(slots=True, eq=False)
class _Open:
    """A session with open blocks or with steps that were not exported yet."""

    steps: dict[str, Step] = field(default_factory=dict)
    blocks: int = 0
    had_blocks: bool = False


class StepLedger:
    """All state of :class:`~otel_sessions.processor.SessionSpanProcessor`. Not thread-safe: one caller at a time."""

    def __init__(self, max_sessions: int, origin: Origin | None = None) -> None:
        """``origin`` is for steps without any span; when it is None they are not exported."""
        self._origin = origin
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[str, _Open] = OrderedDict()
        self._idle: OrderedDict[Step, None] = OrderedDict()
        self._spans: OrderedDict[SpanKey, tuple[str, list[Step]]] = OrderedDict()
        self._exported: OrderedDict[int, None] = OrderedDict()
        self._ready: list[Step] = []
        self.closed: set[str] = set()
        """Sessions whose blocks have all closed, with spans that are open: the end of one may make steps ready."""

    def knows(self, key: SpanKey) -> bool:
        """The span is open and belongs to a step. Safe to ask from any thread."""
        return key in self._spans

    def take_ready(self) -> list[Step]:
        """The steps to export now, parents before their children."""
        ready, self._ready = self._ready, []
        return ready

    def span_started(self, span: SpanStart, now: float) -> None:
        """A span started at its session's path."""
        steps = self._use(span.session, span.time, span.origin, now)
        if not steps:
            return
        if span.link is not None and steps[-1].path == span.session.path:
            steps[-1].link(span.link)
        self._spans[span.key] = (span.session.id, steps)
        if len(self._spans) > MAX_STEPS:
            _, (_, leaked) = self._spans.popitem(last=False)
            for step in leaked:
                step.in_use -= 1

    def span_ended(self, key: SpanKey, end: int, now: float) -> None:
        """A span ended; spans that are not known are ignored."""
        session_id, steps = self._spans.pop(key, ("", []))
        self._release(steps, end, now)
        state = self._sessions.get(session_id)
        if state is not None and state.had_blocks and not state.blocks:
            self._close(session_id, state)

    def block_opened(self, session: Session, time: int, now: float) -> None:
        """A ``with`` at ``session``'s path was entered."""
        self._use(session, time, None, now)
        state = self._state(session.id)
        state.blocks += 1
        state.had_blocks = True
        self.closed.discard(session.id)

    def block_closed(self, session: Session, time: int, now: float) -> None:
        """A ``with`` at ``session``'s path was left."""
        state = self._sessions.get(session.id)
        if state is None or not state.blocks:
            return
        self._release([state.steps[path] for path in lineage(session.path) if path in state.steps], time, now)
        state.blocks -= 1
        if not state.blocks:
            self._close(session.id, state)

    def retire_idle(self, before: float, now: float) -> None:
        """Make the steps ready that were last used before ``before`` and are not in use."""
        while self._idle:
            step = next(iter(self._idle))
            if step.touched > before:
                return
            if step.in_use > 0:
                step.touched = now
                self._idle.move_to_end(step)
            else:
                self._retire(step)

    def retire_unused(self) -> None:
        """Make all steps ready that are not in use."""
        self._retire_all(self._live(lambda step: step.in_use <= 0))

    def retire_all(self) -> None:
        """Make all steps ready."""
        self._retire_all(self._live(lambda _: True))

    def forked(self) -> StepLedger:
        """The ledger of a forked child: the parent exports the steps that it has used."""
        child = StepLedger(self._max_sessions, self._origin)
        child._exported = OrderedDict(self._exported)
        for step in self._idle:
            child._exported[_id(step)] = None
        return child

    def _live(self, wanted: Callable[[Step], bool]) -> list[Step]:
        return [step for state in self._sessions.values() for step in state.steps.values() if wanted(step)]

    def _retire_all(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._retire(step)

    def _state(self, session_id: str) -> _Open:
        state = self._sessions.get(session_id)
        if state is None:
            state = self._sessions[session_id] = _Open()
            if len(self._sessions) > self._max_sessions:
                self._forget(next(iter(self._sessions)))
        else:
            self._sessions.move_to_end(session_id)
        return state

    def _use(self, session: Session, time: int, origin: Origin | None, now: float) -> list[Step]:
        """Put one more use on each step of ``session``'s path that is ours to export."""
        steps = self._steps(session, time, origin)
        for step in steps:
            step.in_use += 1
            step.used(time, now)
            step.origin = step.origin or origin
            if step.session.name is None and session.name is not None:
                step.session = session
            self._idle.move_to_end(step)
        if steps:
            self._sessions.move_to_end(session.id)
            if steps[-1].path == session.path:
                steps[-1].kind = steps[-1].kind or session.step_kind
        return steps

    def _steps(self, session: Session, time: int, origin: Origin | None) -> list[Step]:
        state = self._sessions.get(session.id)
        known = {} if state is None else state.steps
        found = [known.get(path) or self._new_step(session, path, time, origin) for path in _own_paths(session)]
        return [step for step in found if step is not None and step.live]

    def _new_step(self, session: Session, path: str, time: int, origin: Origin | None) -> Step | None:
        if step_span_id(session.id, path) in self._exported:
            return None
        step = Step(path, session, origin, start=time, end=time)
        self._state(session.id).steps[path] = step
        self._idle[step] = None
        if len(self._idle) > MAX_STEPS:
            self._retire(next(iter(self._idle)))
        return step

    def _release(self, steps: Iterable[Step], time: int, now: float) -> None:
        for step in steps:
            step.in_use -= 1
            step.used(time, now)
            if step.live:
                self._idle.move_to_end(step)

    def _close(self, session_id: str, state: _Open) -> None:
        """No block of the session is open any more: all that is not in use is ready."""
        self._retire_all([step for step in state.steps.values() if step.in_use <= 0])
        if state.steps:
            self.closed.add(session_id)
        else:
            self._sessions.pop(session_id, None)

    def _forget(self, session_id: str) -> None:
        state = self._sessions.pop(session_id)
        self.closed.discard(session_id)
        self._retire_all([*state.steps.values()])

    def _retire(self, step: Step) -> None:
        step.live = False
        self._idle.pop(step, None)
        state = self._sessions.get(step.session.id)
        if state is not None:
            state.steps.pop(step.path, None)
            if not state.steps and not state.blocks:
                del self._sessions[step.session.id]
                self.closed.discard(step.session.id)
        step.origin = step.origin or self._origin
        if step.origin is None:
            return
        self._ready.append(step)
        self._exported[_id(step)] = None
        if len(self._exported) > MAX_STEPS:
            self._exported.popitem(last=False)


def _id(step: Step) -> int:
    return step_span_id(step.session.id, step.path)


def _own_paths(session: Session) -> Iterable[str]:
    """The lineage of ``session``'s path without the steps of the process that it was received from."""
    paths = lineage(session.path)
    if session.received_path is None:
        return paths
    theirs = lineage(session.received_path)
    return [path for path in paths if path not in theirs]
