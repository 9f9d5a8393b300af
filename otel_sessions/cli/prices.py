"""``prices``: the price book, the user's own prices, models without one, and history at other prices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from genai_prices import data_snapshot

from otel_sessions.base.errors import OtelSessionsError, PriceFileError
from otel_sessions.base.price import PriceRow
from otel_sessions.cli import text
from otel_sessions.cli.app import Run, json_option, program, store_option
from otel_sessions.cli.reading import Moment
from otel_sessions.cli.views import prices as tables
from otel_sessions.prices import book_version, fetch_book, read_prices, rows_for, write_prices
from otel_sessions.store import Again, PriceChange, Store


@program.group()
def prices() -> None:
    """Look at prices, give your own, and price history again."""


@prices.command("list")
@click.argument("name", metavar="[MODEL]", default="")
@click.option("--book", is_flag=True, help="Every model that genai-prices knows, not only those called so far.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV that `prices import` takes.")
@json_option
@store_option
@click.pass_obj
def list_prices(run: Run, *, name: str, book: bool, as_csv: bool, as_json: bool) -> None:
    """List the prices in force for the models called so far whose name contains MODEL: dollars per million tokens."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    if book:
        rows = _book(name)
    else:
        with run.store() as store, run.output.working("reading prices"):
            rows = _in_force(store.reader().prices(name))
    if as_json:
        run.output.document(rows)
    elif as_csv:
        run.output.raw(write_prices(rows).rstrip("\n"))
    elif rows:
        run.output.lines(tables.prices(rows, run.output.width))
    else:
        run.output.note(f"no price matches; all that genai-prices knows: {run.again('prices list --book')}")


@prices.command()
@json_option
@store_option
@click.pass_obj
def unpriced(run: Run, *, as_json: bool) -> None:
    """List models with calls that have no price."""
    with run.store() as store, run.output.working("reading calls"):
        rows = store.reader().unpriced_models()
    if as_json:
        run.output.document(rows)
    elif rows:
        run.output.lines(tables.unpriced(rows, run.output.width))
        run.output.note(f"give them a price: {run.again('prices update')}, prices import FILE, or prices map")
    else:
        run.output.note("every call with usage has a price")


@prices.command()
@click.option("--network", is_flag=True, help="Fetch the newest prices from genai-prices' repository first.")
@store_option
@click.pass_obj
def update(run: Run, *, network: bool) -> None:
    """Bring the price book up to date for every model seen, and price the calls that had none.

    Without --network nothing is fetched: the prices are those of the installed genai-prices.
    """
    with run.store() as store, run.output.working("looking up models") as now:
        store.migrate(run.settings.retention_days)
        if network:
            now("fetching prices")
            run.output.note(f"using {fetch_book()}")
        names = store.reader().names_to_price()
        rows = [row for name in names for row in rows_for(*name)]
        store.replace_prices(rows, _version())
        known = len({(row.provider, row.model) for row in rows})
        run.output.lines([f"{len(rows)} prices of {known} models; {len(names) - known} names are not known"])
        _price_the_unpriced(run, store, now)


@prices.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only check the file.")
@store_option
@click.pass_context
def import_file(ctx: click.Context, *, file: Path, dry_run: bool) -> None:
    """Take your own prices from a CSV FILE; they win over the book's. Exits 2 and names each mistake with its line.

    The header names the columns; see `prices list --csv`. Needed are provider, model, and input or output, in dollars per
    million tokens; what is left out costs what the more general kind of token does.
    """
    run: Run = ctx.obj
    try:
        rows = read_prices(file.read_text("utf-8"), file.name)
    except PriceFileError as error:
        for mistake in error.mistakes:
            run.output.error(f"{error.name}: {mistake}")
        ctx.exit(2)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        run.output.error(f"{file.name}: line {line}: this is not UTF-8 text; save the file as UTF-8")
        ctx.exit(2)
    except OSError as error:
        raise OtelSessionsError(f"{file.name} cannot be read: {error}") from error
    models = len({(row.provider, row.model) for row in rows})
    if not dry_run:
        with run.store(create=True) as store, run.output.working("writing prices"):
            store.migrate(run.settings.retention_days)
            store.replace_prices(rows, _version())
    run.output.lines([f"{'read' if dry_run else 'imported'} {len(rows)} prices of {models} models"])
    if not dry_run:
        run.output.note(f"calls from now on have these prices; earlier ones: {run.again('prices reprice')}")


@prices.command("map")
@click.argument("name", metavar="PROVIDER/MODEL")
@click.argument("word", metavar="as", type=click.Choice(["as"], case_sensitive=False))
@click.argument("known", metavar="PROVIDER/MODEL")
@store_option
@click.pass_obj
def map_model(run: Run, *, name: str, word: str, known: str) -> None:  # noqa: ARG001 - `as` reads well
    """Give a model the prices of another one: map azure/my-deployment as openai/gpt-4o."""
    provider, model = _name(name)
    with run.store() as store, run.output.working("looking up prices") as now:
        store.migrate(run.settings.retention_days)
        rows = _prices_of(store, *_name(known))
        mapped = [
            replace(row, provider=provider, model=model, origin="user", source=f"as {known}: {row.source}")
            for row in rows
        ]
        store.replace_prices(mapped, _version())
        run.output.lines([f"{name} costs what {known} does: {len(mapped)} prices"])
        _price_the_unpriced(run, store, now)


@prices.command()
@click.option("--session", "session_id", metavar="ID", help="Only calls of this session.")
@click.option("--since", type=Moment(), help="Only calls that started at or after: 2h, 1d, or an ISO 8601 time (UTC).")
@click.option("--until", type=Moment(), help="Only calls that started before; as --since.")
@click.option(
    "--as", "at", metavar="charged|today|PROVIDER/MODEL", default="charged", show_default=True,
    help="charged: at the prices of each call's own time, and write it. today, or another model: only say what it would cost.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@click.option("--resume", is_flag=True, help="Finish a repricing that was cut short.")
@json_option
@store_option
@click.pass_obj
def reprice(  # noqa: PLR0913 - one parameter per option
    run: Run,
    *,
    session_id: str | None,
    since: datetime | None,
    until: datetime | None,
    at: str,
    dry_run: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Price history again: as the book says now, as of today, or as if on another model. Provided costs stay."""
    with run.store() as store, run.output.working("pricing calls") as now:
        if session_id is not None:
            store.reader().session(session_id)
        every = Again(session_id=session_id)
        again = _again(store, at, replace(every, since=since or every.since, until=until or every.until))
        found = store.compare_prices(again)
        writes = not dry_run and not again.hypothetical
        if writes:
            store.reprice(again, now, resume=resume)
    _show(run, found, as_json=as_json)
    if not as_json:
        changed = sum(row.changed_calls for row in found)
        run.output.note(
            f"{text.count(changed)} calls {'have new costs' if writes else 'would differ; nothing was written'}"
        )


def _show(run: Run, found: Sequence[PriceChange], *, as_json: bool) -> None:
    if as_json:
        run.output.document(found)
    elif found:
        run.output.lines(tables.changes(found, run.output.width))
    else:
        run.output.note("no call with usage matches")


def _again(store: Store, at: str, chosen: Again) -> Again:
    if at == "charged":
        return chosen
    if at == "today":
        return replace(chosen, at=datetime.now(UTC))
    provider, model = _name(at)
    _prices_of(store, provider, model)
    return replace(chosen, provider=provider, model=model)


def _prices_of(store: Store, provider: str, model: str) -> Sequence[PriceRow]:
    """The rows of one model, from the store, or from the book and then in the store too."""
    known = [
        row for row in store.reader().prices(f"{provider}/{model}") if (row.provider, row.model) == (provider, model)
    ]
    rows = [row for row in known if row.origin == "user"] or rows_for(provider, model)
    if not rows and not known:
        raise OtelSessionsError(
            f"no price is known for {provider}/{model}. See: otel-sessions prices list --book {model}"
        )
    store.add_prices(rows_for(provider, model), book_version())
    return rows or known


def _price_the_unpriced(run: Run, store: Store, now: Callable[[str], None]) -> None:
    again = Again(unpriced=True)
    changed = sum(row.changed_calls for row in store.compare_prices(again))
    if changed:
        store.reprice(again, lambda month: now(f"pricing calls of {month}"))
    run.output.lines([f"{changed} calls that had no price have one now"])


def _in_force(rows: Sequence[PriceRow]) -> list[PriceRow]:
    """``rows`` without those of the book that never hold: wherever they would, one of the user's does."""
    own = [row for row in rows if row.origin == "user"]
    return [row for row in rows if row.origin == "user" or not any(_covers(better, row) for better in own)]


def _covers(better: PriceRow, row: PriceRow) -> bool:
    return (
        (better.provider, better.model, better.service_tier) == (row.provider, row.model, row.service_tier)
        and better.valid_from <= row.valid_from
        and better.time_from <= row.time_from
        and better.tier_start <= row.tier_start
    )


def _book(name: str) -> list[PriceRow]:
    every = (
        (provider.id, model.id) for provider in data_snapshot.get_snapshot().providers for model in provider.models
    )
    chosen = (found for found in every if name.lower() in "/".join(found).lower())
    return [row for found in chosen for row in rows_for(*found)]


def _name(given: str) -> tuple[str, str]:
    provider, slash, model = given.partition("/")
    if not slash or not model:
        raise click.UsageError(f"{given!r} is not PROVIDER/MODEL, for instance openai/gpt-4o.")
    return provider, model


def _version() -> int:
    """Larger than that of any row written before."""
    return time.time_ns() // 1000
