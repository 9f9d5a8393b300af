"""session(), step(), decorators, threads: what is active where, and what stays out of the caller's way."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import logging
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import context, trace

from otel_sessions.base.context import add_listener, remove_listener
from otel_sessions.base.guard import counters
from otel_sessions.base.values import Session
from otel_sessions.sessions import current_session, session, step, with_context


def here() -> str | None:
    """Id and path of the active session."""
    active = current_session()
    return None if active is None else f"{active.id}{active.path}"


@pytest.fixture
def blocks() -> Iterator[list[str]]:
    """What the listeners hear: + for an opened, - for a closed block."""
    heard: list[str] = []

    def listener(position: Session, opened: bool) -> None:  # noqa: FBT001 - a listener's signature
        heard.append(f"{'+' if opened else '-'}{position.path}")

    add_listener(listener)
    yield heard
    remove_listener(listener)


def test_a_with_block_gives_the_session_and_restores_what_was(blocks: list[str]) -> None:
    """Inside the block its session is active, afterwards the one before."""
    assert current_session() is None
    with session("run", name="n", user_id="ann", path="triage//", properties={"plan": "pro"}, kind="agent") as outer:
        assert outer == current_session()
        assert outer == Session("run", "n", "/triage", "ann", {"plan": "pro"}, "agent")
        with session("other") as inner:
            assert inner == Session("other")
        assert current_session() is outer
    assert current_session() is None
    assert blocks == ["+/triage", "+/", "-/", "-/triage"]


def test_an_exception_passes_and_the_block_is_closed(blocks: list[str]) -> None:
    """The host's own exception is not touched."""
    with pytest.raises(KeyError, match="mine"), session("run"):
        raise KeyError("mine")
    assert (here(), blocks) == (None, ["+/", "-/"])


def test_without_an_id_each_entry_is_a_new_session() -> None:
    """Ids are UUIDv7, one per entry, also of the same object and inside another session."""
    made = session(name="n")
    with made as first:
        pass
    with made as second, session() as third:
        pass
    ids = [first.id, second.id, third.id]
    assert [uuid.UUID(value).version for value in ids] == [7, 7, 7]
    assert len(set(ids)) == 3


def test_steps_are_relative_or_absolute_and_carry_their_own_kind() -> None:
    """step("x") appends, step("/a/b") does not; a kind belongs to its own step only."""
    with session("run", path="/triage", kind="agent"):
        with step("classify") as inner:
            assert inner is not None
            assert (inner.path, inner.step_kind) == ("/triage/classify", None)
            with step("deep", kind="tool") as deep:
                assert deep is not None
                assert (deep.path, deep.step_kind) == ("/triage/classify/deep", "tool")
        with step("/a/b") as absolute:
            assert absolute is not None
            assert absolute.path == "/a/b"


def test_the_same_session_again_keeps_what_is_not_given() -> None:
    """Inside a session of the same id, name, user and properties stay; what is given is added."""
    with session("run", name="n", user_id="ann", properties={"a": "1", "b": "2"}), step("x"):
        with session("run", path="/y", properties={"b": "3"}) as again:
            assert again == Session("run", "n", "/y", "ann", {"a": "1", "b": "3"})
        with session("other") as other:
            assert other == Session("other")


def test_a_step_outside_any_session_does_nothing_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """No session, no step: the block runs, nothing is active, a counter and one warning say so."""
    before = counters().get("step.outside", 0)
    with step("x") as nothing:
        assert nothing is None
        assert current_session() is None
    with step("x"):
        pass
    assert counters()["step.outside"] == before + 2
    assert sum("outside any session" in message for message in caplog.messages) <= 1


class Awkward:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_wrong_arguments_are_converted_and_counted() -> None:
    """Telemetry does not raise into the host: what is no text becomes text, what cannot is left out."""
    wrong: Any = session
    before = counters().get("argument.converted", 0)
    with wrong(42, name=1.5, path=None, user_id=b"x", properties={"n": 1, 2: None}) as made:
        assert made == Session("42", "1.5", "/None", "b'x'", {"n": "1", "2": "None"})
    with wrong("run", properties=["no mapping"]) as made:
        assert made == Session("run")
    with wrong(Awkward(), name=Awkward()) as made:
        assert uuid.UUID(made.id).version == 7
        with step(Awkward()) as inner:  # type: ignore[arg-type]
            assert inner == made
    assert counters()["argument.converted"] >= before + 9


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_id_is_no_id(blank: str) -> None:
    """An empty id would merge unrelated runs; it gets a new one instead."""
    with session(blank) as made:
        assert uuid.UUID(made.id).version == 7


@pytest.mark.parametrize(
    ("raw", "kept"),
    [("x" * 300, "x" * 256), (" run ", "run"), ("a\ud800b", "a?b"), ("Zürich ✓", "Zürich ✓"), ("a\nb\x00", "a\nb\x00")],
)
def test_hostile_ids_are_normalised(raw: str, kept: str) -> None:
    """Ids are cut at 256 characters and stripped; what cannot be encoded becomes a question mark."""
    with session(raw) as made:
        assert made.id == kept


def test_properties_are_bounded() -> None:
    """50 properties of 1,024 characters are kept."""
    with session("run", properties={f"p{n}": "v" * 2000 for n in range(60)}) as made:
        assert len(made.properties) == 50
        assert {len(value) for value in made.properties.values()} == {1024}


async def test_async_with_is_per_task(blocks: list[str]) -> None:
    """One shared object, entered by 50 tasks at once: each task sees its own entry and leaves it."""
    shared, barrier = step("shared"), asyncio.Barrier(50)
    seen: list[str | None] = []

    async def run(n: int) -> None:
        async with session(f"task-{n}"):
            async with shared as position:
                await barrier.wait()
                seen.append(here())
                assert position is not None
                assert position.id == f"task-{n}"
            assert here() == f"task-{n}/"

    await asyncio.gather(*(run(n) for n in range(50)))
    assert sorted(filter(None, seen)) == sorted(f"task-{n}/shared" for n in range(50))
    assert (blocks.count("+/shared"), blocks.count("-/shared")) == (50, 50)


async def test_a_shared_step_in_and_outside_of_sessions(blocks: list[str]) -> None:
    """A task outside any session that leaves a shared step does not close the entry of another task."""
    shared, inside, outside = step("shared"), asyncio.Event(), asyncio.Event()

    async def with_session() -> None:
        async with session("run"), shared:
            inside.set()
            await outside.wait()
            assert here() == "run/shared"
            assert blocks == ["+/", "+/shared"]

    async def without() -> None:
        await inside.wait()
        async with shared:
            assert here() is None
        outside.set()

    await asyncio.gather(with_session(), without())
    assert blocks == ["+/", "+/shared", "-/shared", "-/"]


def test_the_same_object_can_be_nested(blocks: list[str]) -> None:
    """Entering an object inside itself opens one more level each time."""
    shared = step("x")
    with session("run"), shared, shared:
        assert here() == "run/x/x"
    assert blocks == ["+/", "+/x", "+/x/x", "-/x/x", "-/x", "-/"]


def test_a_context_that_the_host_left_attached_is_no_obstacle(blocks: list[str]) -> None:
    """Who attaches inside a block and forgets to detach still leaves the block."""
    with session("run"):
        context.attach(context.set_value("mine", 1))
    assert (here(), blocks) == (None, ["+/", "-/"])


def test_decorated_functions_get_a_new_block_per_call() -> None:
    """Name, docstring and result are the function's; each call is a session of its own."""

    @session(name="n")
    def agent(value: int, *, more: int = 0) -> tuple[str | None, int]:
        """Adds."""
        return here(), value + more

    first, second = agent(1, more=2), agent(2)
    assert (agent.__name__, agent.__doc__) == ("agent", "Adds.")
    assert (first[1], second[1]) == (3, 2)
    assert first[0] != second[0]


def test_decorated_methods_and_recursion() -> None:
    """A decorated method gets its self; a recursive call is a step inside the step."""

    class Agent:
        @step("turn")
        def turn(self, depth: int) -> list[str | None]:
            return [here(), *(self.turn(depth - 1) if depth else [])]

    with session("run"):
        assert Agent().turn(1) == ["run/turn", "run/turn/turn"]


async def test_a_coroutine_that_a_plain_function_returns_stays_in_its_session(blocks: list[str]) -> None:
    """Awaited later and elsewhere, its body still stands where the function was called, and the step lasts as long."""

    async def later() -> str | None:
        await asyncio.sleep(0)
        with step("inner"):
            return here()

    @session("run")
    def plain() -> Coroutine[Any, Any, str | None]:
        return later()

    returned = plain()
    assert (here(), blocks) == (None, ["+/", "+/", "-/"])
    with session("caller"):
        assert await asyncio.create_task(returned) == "run/inner"
    assert blocks == ["+/", "+/", "-/", "+/", "+/inner", "-/inner", "-/", "-/"]


async def test_a_coroutine_of_a_plain_function_raises_what_its_body_raises(blocks: list[str]) -> None:
    """The exception comes out as it is, and the block is closed."""

    async def failing() -> None:
        raise ValueError("mine")

    @session("run")
    def plain() -> Coroutine[Any, Any, None]:
        return failing()

    with pytest.raises(ValueError, match="mine"):
        await plain()
    assert blocks == ["+/", "+/", "-/", "-/"]


async def test_decorated_coroutine_functions_stay_coroutine_functions() -> None:
    """The block lasts as long as the coroutine, across awaits."""

    @session("run")
    async def agent() -> str | None:
        await asyncio.sleep(0)
        return here()

    assert inspect.iscoroutinefunction(agent)
    assert await agent() == "run/"
    assert here() is None


def counted(log: list[Any]) -> Generator[int, str, str]:
    """A generator that uses all of the protocol."""
    try:
        log.append(here())
        try:
            sent = yield 1
            log.append((sent, here()))
        except KeyError as error:
            log.append((repr(error), here()))
        yield 2
        log.append(here())
        return "result"
    finally:
        log.append(("closed", here()))


def decorated(log: list[Any]) -> Generator[int, str, str]:
    return session("run")(counted)(log)


def test_a_generator_is_in_its_session_only_while_its_body_runs(blocks: list[str]) -> None:
    """Between two values the caller's session is active; sending and the return value work as ever."""
    log: list[Any] = []
    with session("caller"):
        generator = decorated(log)
        assert blocks == ["+/"]
        assert (next(generator), here()) == (1, "caller/")
        assert (generator.send("hello"), here()) == (2, "caller/")
        with pytest.raises(StopIteration) as end:
            next(generator)
        assert (end.value.value, here()) == ("result", "caller/")
    assert log == ["run/", ("hello", "run/"), "run/", ("closed", "run/")]
    assert blocks == ["+/", "+/", "-/", "-/"]


def test_a_generator_takes_exceptions_and_closing() -> None:
    """throw() and close() reach the body, inside its session."""
    log: list[Any] = []
    generator = decorated(log)
    next(generator)
    assert generator.throw(KeyError("mine")) == 2
    generator.close()
    assert log == ["run/", ("KeyError('mine')", "run/"), ("closed", "run/")]
    with pytest.raises(StopIteration):
        next(generator)


def test_a_generator_raises_what_its_body_raises() -> None:
    """An exception of the body and one that it does not catch come out as they are."""

    @session("run")
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("mine")

    assert next(failing()) == 1
    with pytest.raises(ValueError, match="mine"):
        list(failing())
    generator = decorated([])
    next(generator)
    with pytest.raises(OSError, match="thrown"):
        generator.throw(OSError("thrown"))


def test_a_generator_that_ignores_closing_is_an_error_as_ever() -> None:
    """Python's own RuntimeError for a body that yields while it is closed."""

    @session("run")
    def stubborn() -> Iterator[int]:
        while True:
            try:
                yield 1
            except GeneratorExit:
                yield 2

    generator = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()  # type: ignore[attr-defined]


def test_a_generator_keeps_what_its_body_made_active() -> None:
    """A step that is open across a yield is active again after it, and not in the caller."""

    @session("run")
    def body() -> Iterator[str | None]:
        with step("a"):
            yield here()
            yield here()
        yield here()

    seen = []
    for value in body():
        assert here() is None
        seen.append(value)
    assert seen == ["run/a", "run/a", "run/"]


def test_interleaved_generators_do_not_mix() -> None:
    """Two generators that are read in turns each keep their own session."""

    @session()
    def body() -> Iterator[str | None]:
        for _ in range(3):
            yield here()

    pairs = [*zip(body(), body(), strict=True)]
    assert len(set(pairs)) == 1
    assert pairs[0][0] != pairs[0][1]


def test_a_generator_that_was_never_started_opens_nothing(blocks: list[str]) -> None:
    """Calling a decorated generator function does nothing until the first value is asked for."""
    decorated([])
    assert blocks == []


def test_a_generator_that_is_dropped_is_closed_quietly(blocks: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Garbage collection closes body and block without a word in the log."""
    log: list[Any] = []
    generator = decorated(log)
    next(generator)
    del generator
    gc.collect()
    assert log[-1] == ("closed", "run/")
    assert (blocks, here(), caplog.messages) == (["+/", "-/"], None, [])


def test_a_generator_may_be_resumed_in_other_threads() -> None:
    """Each value asked for in another thread: the body still sees its session and the threads do not."""

    @session("run")
    def body() -> Iterator[str | None]:
        with step("a"):
            yield here()
            yield here()
        yield here()

    generator, seen = body(), []
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(next, generator).result())
            assert pool.submit(here).result() is None
    assert seen == ["run/a", "run/a", "run/"]


async def ticking(log: list[Any]) -> AsyncGenerator[int, str]:
    """An async generator that uses all of the protocol."""
    try:
        try:
            sent = yield 1
            log.append((sent, here()))
        except KeyError as error:
            log.append((repr(error), here()))
        await asyncio.sleep(0)
        yield 2
    finally:
        await asyncio.sleep(0)
        log.append(("closed", here()))


def decorated_ticking(log: list[Any]) -> AsyncGenerator[int, str]:
    return session("run")(ticking)(log)


async def test_an_async_generator_is_in_its_session_only_while_its_body_runs(blocks: list[str]) -> None:
    """As for generators: asend(), athrow(), aclose() and the end."""
    log: list[Any] = []
    assert inspect.isasyncgenfunction(session("run")(ticking))
    generator = decorated_ticking(log)
    assert (await anext(generator), here()) == (1, None)
    assert (await generator.asend("hello"), here()) == (2, None)
    with pytest.raises(StopAsyncIteration):
        await anext(generator)
    generator = decorated_ticking(log)
    await anext(generator)
    assert (await generator.athrow(KeyError("mine")), here()) == (2, None)
    await generator.aclose()
    assert log == [("hello", "run/"), ("closed", "run/"), ("KeyError('mine')", "run/"), ("closed", "run/")]
    assert blocks == ["+/", "-/"] * 2


async def test_an_async_generator_that_is_closed_elsewhere_is_quiet(
    blocks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A block inside an async generator that another task closes: no "Failed to detach context", nothing left active."""

    async def body() -> AsyncIterator[str | None]:
        with session("run"):
            yield here()

    generator = body()

    async def first() -> str | None:
        return await anext(generator)

    assert await asyncio.create_task(first()) == "run/"
    with session("mine"):
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
        assert here() == "mine/"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert blocks == ["+/", "+/", "-/", "-/"]


def test_async_generators_left_open_are_closed_with_the_loop(
    blocks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An event loop that ends closes wrapper and body at once; neither complains."""
    log: list[Any] = []
    kept: list[Any] = []

    async def main() -> None:
        kept.append(decorated_ticking(log))
        await anext(kept[0])

    asyncio.run(main())
    assert log == [("closed", "run/")]
    assert (blocks, caplog.messages) == (["+/", "-/"], [])


async def test_cancellation_passes_through() -> None:
    """A cancelled task is cancelled, its block closed and its session gone."""
    started = asyncio.Event()

    @session("run")
    async def agent() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(agent())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_with_context_takes_the_session_into_threads() -> None:
    """One wrapped function runs in many threads at once, each in a copy of the context as it was."""
    barrier = threading.Barrier(4)

    def work(n: int) -> tuple[str | None, str | None]:
        barrier.wait(10)
        with step(f"thread-{n}"):
            return here(), threading.current_thread().name

    with ThreadPoolExecutor(4) as pool:
        with session("run"), step("a"):
            wrapped = with_context(work)
        results = [*pool.map(wrapped, range(4))]
        assert pool.submit(here).result() is None
    assert wrapped.__name__ == "work"
    assert sorted(str(result[0]) for result in results) == [f"run/a/thread-{n}" for n in range(4)]


@pytest.mark.parametrize("function", [len, functools.partial(sum, [1, 2])], ids=["builtin", "partial"])
def test_with_context_takes_any_callable(function: Callable[..., int]) -> None:
    """Built-ins and partials have no attributes to copy and work nevertheless."""
    assert with_context(function)([1, 2, 3] if function is len else 0) == 3


async def test_with_context_takes_the_session_into_a_task_that_was_there_before() -> None:
    """A worker awaits each job in the context in which it was handed in, and is in its own again afterwards."""
    jobs: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue()
    seen: list[str | None] = []

    async def job(name: str) -> None:
        async with step(name):
            await asyncio.sleep(0)
            seen.append(here())

    async def work() -> None:
        while True:
            await (await jobs.get())()
            seen.append(here())
            jobs.task_done()

    worker = asyncio.create_task(work())
    async with session("run"), step("a"):
        wrapped = with_context(job)
        jobs.put_nowait(functools.partial(wrapped, "b"))
        jobs.put_nowait(with_context(lambda: job("c")))
    await jobs.join()
    worker.cancel()
    assert inspect.iscoroutinefunction(wrapped)
    assert seen == ["run/a/b", None, "run/a/c", None]


async def test_with_context_keeps_the_session_in_the_body_of_a_generator() -> None:
    """Whoever asks for the items, and from where: the body runs where it was wrapped, the caller stays where it is."""

    def items() -> Generator[str | None, None, None]:
        yield here()
        yield here()

    async def async_items() -> AsyncGenerator[str | None, None]:
        yield here()
        yield here()

    with session("run"), step("a"):
        wrapped, async_wrapped = with_context(items), with_context(async_items)
    with session("other"):
        assert [(item, here()) for item in wrapped()] == [("run/a", "other/")] * 2
        assert [(item, here()) async for item in async_wrapped()] == [("run/a", "other/")] * 2


def test_with_context_outside_a_session_is_outside_it_everywhere() -> None:
    """What was wrapped before a session was opened does not find its way into it."""

    async def work() -> str | None:
        return here()

    wrapped = with_context(work)
    with session("run"):
        assert asyncio.run(wrapped()) is None


def test_a_copied_context_carries_the_session() -> None:
    """contextvars.copy_context is all that is needed to hand a session on by hand."""
    with session("run"):
        copied = contextvars.copy_context()
    assert (copied.run(here), here()) == ("run/", None)


def test_a_real_span_stays_current_inside_a_block() -> None:
    """A block does not hide the host's active span from what runs inside."""
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(span), session("run"), step("a"):
        assert trace.get_current_span() is span
