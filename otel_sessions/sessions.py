"""Sessions and steps in the host's code: ``with``, ``async with``, decorators, threads.

Nothing here raises into the host: arguments that are no text are converted and counted.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextvars import Token
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from opentelemetry import context
from opentelemetry.context import Context

from otel_sessions.base.context import active_session, detach, enter, notify
from otel_sessions.base.guard import count, guarded
from otel_sessions.base.paths import ROOT, new_session_id, normalize_id, normalize_path
from otel_sessions.base.values import Session, normalize_properties

F = TypeVar("F", bound=Callable[..., Any])
S_co = TypeVar("S_co", bound=Session | None, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """One open ``with``; ``session`` is None for a step outside any session."""

    session: Session | None
    token: Token[Context]
    before: Context
    attached: Context


class Block(Generic[S_co]):
    """What :func:`session` and :func:`step` return: use it with ``with``, ``async with`` or as a decorator.

    One block may be entered many times, also by many tasks and threads at once. As a decorator it opens anew for
    each call; around a generator it is active only while the generator's body runs, never in the caller. Such a
    generator finds its place in the session when its first value is asked for, not when it is called: it has to stay a
    generator function, as web frameworks and test fixtures ask, and of that nothing runs before.
    """

    __slots__ = ("_open", "_resolve")

    def __init__(self, resolve: Callable[[], S_co]) -> None:
        self._resolve = resolve
        self._open: dict[int, _Entry] = {}

    def __enter__(self) -> S_co:
        position = self._resolve()
        before = attached = context.get_current()
        try:
            with guarded("session.enter"):
                # a context object of its own, also outside a session: it tells this entry from those of other tasks
                attached = Context(before) if position is None else enter(position, before)
                self._open[id(attached)] = _Entry(position, context.attach(attached), before, attached)
                if position is not None:
                    notify(position, opened=True)
        except BaseException:
            self._restore(attached, before)
            raise
        return position

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        here = context.get_current()
        inside = self._open.get(id(here))
        try:
            with guarded("session.exit"):
                entry = self._leave()
                if entry is not None and entry.session is not None:
                    notify(entry.session, opened=False)
        except BaseException:
            if inside is not None:
                self._restore(here, inside.before)
            raise

    def _restore(self, attached: Context, before: Context) -> None:
        """The host is interrupted while it enters or leaves, by Ctrl-C for one: it must not stay in the session."""
        self._open.pop(id(attached), None)
        if context.get_current() is attached:
            context.attach(before)

    async def __aenter__(self) -> S_co:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """``function`` with a new block around each call."""
        if inspect.isasyncgenfunction(function):
            return cast("F", _around_async_generator(lambda: _Body(self._resolve()), function))
        if inspect.isgeneratorfunction(function):
            return cast("F", _around_generator(lambda: _Body(self._resolve()), function))
        if _is_coroutine_function(function):
            return cast("F", _around_coroutine(self, function))
        return cast("F", _around_function(self, function))

    def _leave(self) -> _Entry | None:
        """Take back the entry whose context is current; failing that, the newest of this task or thread, or at all."""
        entry = self._open.pop(id(context.get_current()), None)
        if entry is not None:
            if not detach(entry.token):
                context.attach(entry.before)  # a generator's body that goes on in another thread or task
            return entry
        for key, candidate in [*self._open.items()][::-1]:
            if detach(candidate.token):
                return self._open.pop(key, None)
        return self._open.popitem()[1] if self._open else None


def session(  # noqa: PLR0913 - what a session is made of
    id: str | None = None,  # noqa: A002 - the word that users type
    *,
    name: str | None = None,
    path: str = ROOT,
    user_id: str | None = None,
    properties: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> Block[Session]:
    """A session: everything below it belongs to ``id``; without one, each entry gets a new UUIDv7.

    Inside a session of another id it starts afresh. Inside one of the same id, name, user and properties that are
    not given are kept. ``path`` is where in the session's tree the block stands, ``kind`` says what sort of step
    it is (``agent``, ``tool``, ...).
    """
    given = Session(
        id=normalize_id(_text("id", id)) if id is not None else "",
        name=_optional("name", name),
        path=normalize_path(_text("path", path)),
        user_id=_optional("user_id", user_id),
        properties=_properties(properties),
        step_kind=_optional("kind", kind),
    )
    return Block(lambda: _resolve_session(given))


def step(name: str, *, kind: str | None = None) -> Block[Session | None]:
    """A step of the active session: inside ``/triage``, ``"classify"`` is ``/triage/classify`` and ``"/a/b"`` is ``/a/b``.

    Outside any session it does nothing, yields None, and is counted.
    """
    given, given_kind = _text("name", name), _optional("kind", kind)
    return Block(lambda: _resolve_step(given, given_kind))


def current_session() -> Session | None:
    """The session, and the position in it, that is active here; None outside any."""
    return active_session()


def with_context(function: F) -> F:
    """``function``, to be run by an executor, a thread or a task, in a copy of the context as it is now.

    Each call gets a copy of its own, so that one wrapped function can run in many threads at once. Of what is not run
    where it is called, a coroutine or the body of a generator, it is the OpenTelemetry context: session, span, baggage.
    """
    snapshot, here = contextvars.copy_context(), context.get_current()
    if inspect.isasyncgenfunction(function):
        return cast("F", _around_async_generator(lambda: _Body(None, here), function))
    if inspect.isgeneratorfunction(function):
        return cast("F", _around_generator(lambda: _Body(None, here), function))
    if _is_coroutine_function(function):
        return cast("F", _awaited_in(here, function))

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        result = snapshot.copy().run(function, *args, **kwargs)
        return _await_in(_Body(None, here), result) if inspect.iscoroutine(result) else result

    return cast("F", run)


def _resolve_session(given: Session) -> Session:
    if not given.id:
        return replace(given, id=new_session_id())
    outer = active_session()
    if outer is None or outer.id != given.id:
        return given
    return replace(
        given,
        name=given.name or outer.name,
        user_id=given.user_id or outer.user_id,
        properties={**outer.properties, **given.properties},
        received_path=outer.received_path,
    )


def _resolve_step(name: str, kind: str | None) -> Session | None:
    outer = active_session()
    if outer is None:
        count(
            "step.outside",
            "otel-sessions: step(%.80r) outside any session does nothing; open a session first, and in threads see with_context()",
            name,
        )
        return None
    return outer.at(name, kind)


def _text(argument: str, value: object) -> str:
    if isinstance(value, str):
        return value
    count("argument.converted", "otel-sessions: %s should be a text, not %s", argument, type(value).__name__)
    with guarded("argument"):
        return str(value)
    return ""


def _optional(argument: str, value: object) -> str | None:
    return None if value is None else normalize_id(_text(argument, value)) or None


def _properties(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        count("argument.converted", "otel-sessions: properties should be a mapping, not %s", type(value).__name__)
        return {}
    return normalize_properties({_text("property name", k): _text("property value", v) for k, v in value.items()})


class _Body:
    """The context of a generator's or a coroutine's body: attached while the body runs, kept while it is suspended."""

    __slots__ = ("_context", "_session", "_token")

    def __init__(self, session: Session | None, ctx: Context | None = None) -> None:
        """``session`` is what :meth:`opened` enters; without one the body runs in ``ctx``, or wherever it is resumed."""
        self._session = session
        self._context = ctx
        self._token: Token[Context] | None = None

    def opened(self) -> None:
        with guarded("session.enter"):
            if self._session is not None:
                self._context = enter(self._session)
                notify(self._session, opened=True)

    def closed(self) -> None:
        with guarded("session.exit"):
            if self._session is not None:
                notify(self._session, opened=False)

    def __enter__(self) -> None:
        self._token = None if self._context is None else context.attach(self._context)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            self._context = context.get_current()
            detach(self._token)


def _around_function(block: Block[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block as position:
            result = function(*args, **kwargs)
            if position is None or not inspect.iscoroutine(result):
                return result
            body = _Body(position)
            body.opened()  # before the block closes: the step lasts until the coroutine ends
        return _await_in(body, result)

    return wrapper


async def _await_in(body: _Body, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a plain function has returned to be awaited later: it is awaited where the function was called."""
    try:
        with body:
            return await coroutine
    finally:
        body.closed()


def _is_coroutine_function(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _awaited_in(ctx: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await _await_in(_Body(None, ctx), function(*args, **kwargs))

    return wrapper


def _around_coroutine(block: Block[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block:
            return await function(*args, **kwargs)

    return wrapper


def _around_generator(new_body: Callable[[], _Body], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        body = new_body()
        body.opened()
        try:
            return (yield from _drive(body, function(*args, **kwargs)))
        finally:
            body.closed()

    return wrapper


def _drive(body: _Body, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """``yield from inner`` (PEP 380), with ``body`` active whenever ``inner`` runs."""
    resume: Callable[[], Any] = functools.partial(next, inner)
    while True:
        try:
            with body:
                item = resume()
        except StopIteration as end:
            return end.value
        try:
            sent = yield item
        except GeneratorExit:
            with body:
                inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in by the caller, meant for the body
            resume = functools.partial(inner.throw, error)
        else:
            resume = functools.partial(inner.send, sent)


def _around_async_generator(new_body: Callable[[], _Body], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        body = new_body()
        body.opened()
        inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        advance: Callable[[], Any] = functools.partial(_first, inner)
        try:
            while True:
                try:
                    with body:
                        item = await advance()
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    with body:
                        await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the caller, meant for the body
                    advance = functools.partial(inner.athrow, error)
                else:
                    advance = functools.partial(inner.asend, sent)
        finally:
            body.closed()

    return wrapper


def _first(inner: AsyncGenerator[Any, Any]) -> Any:
    """Start ``inner`` unseen by the event loop, which would close it at its own end, outside its session.

    The loop knows the wrapper, and closing that closes ``inner``.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)
