"""A file of the user's own prices: what it says, what it leaves out, and each mistake with its line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_sessions.base.errors import PriceFileError
from otel_sessions.base.price import PriceRow
from otel_sessions.prices import read_prices, rows_for, write_prices


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(PriceFileError) as caught:
        read_prices(text, "prices.csv")
    return caught.value.mistakes


def test_a_short_line_is_enough() -> None:
    """Provider, model, input and output; every other kind of token costs what the more general one does."""
    [row] = read_prices("provider,model,input,cached_input,output\nopenai,gpt-4o,2.5,1,10\n", "prices.csv")
    assert (row.origin, row.source, row.service_tier) == ("user", "prices.csv", "")
    assert (row.cached_input, row.cache_write_1h, row.audio_input, row.cached_audio_input) == (
        Decimal(1), Decimal("2.5"), Decimal("2.5"), Decimal("2.5"),
    )  # fmt: skip
    assert (row.reasoning, row.image_output, row.request, row.web_search) == (Decimal(10), Decimal(10), None, None)


def test_conditions_are_read() -> None:
    """Day, hour, context tier and service tier, in any order of columns; a byte order mark and blank lines do no harm."""
    text = (
        "\ufeffOUTPUT,model,provider,valid_from,time_from,tier_start,service_tier\n"
        "1,m,p,2026-11-22,,,flex\n\n"
        "2,m,p,2026-11-22,,200000,flex\n"
        "3,m,p,2026-11-22,16:30,,flex\n"
        "4,m,p,2026-11-22T08:00:00+02:00,,,\n"
    )
    day = datetime(2026, 11, 22, tzinfo=UTC)
    found = [(r.output, r.valid_from, r.time_from, r.tier_start, r.service_tier) for r in read_prices(text, "x")]
    assert found == [
        (Decimal(1), day, 0, 0, "flex"),
        (Decimal(2), day, 0, 200_000, "flex"),
        (Decimal(3), day, 59_400, 0, "flex"),
        (Decimal(4), datetime(2026, 11, 22, 6, tzinfo=UTC), 0, 0, ""),
    ]


def test_every_mistake_is_named_with_its_line() -> None:
    """All of them at once, in the order of the lines."""
    found = mistakes(
        "provider,model,input,output,valid_from,tier_start,time_from\n"
        "openai,short\n"
        ",nobody,1,1,,,\n"
        'openai,comma,"1,5",1,,,\n'
        "openai,minus,-1,nan,,,\n"
        "openai,fine,1e-19,1000000,,,\n"
        "openai,nothing,,,,,\n"
        "openai,when,1,1,yesterday,many,25:00\n"
        "openai,early,1,1,1969-12-31,,\n"
        "openai,twice,1,1,,,\n"
        "openai,twice,2,2,,,\n"
        "openai,large,1,1,,200000,\n"
    )
    expected = [
        "line 2: 2 fields, the header has 7",
        "line 3: provider is empty",
        "line 4: input: '1,5' is not a number",
        "line 5: input: '-1' is not a price",
        "line 5: output: 'nan' is not a price",
        "line 6: input: '1e-19' has more than 18 decimals",
        "line 6: output: '1000000' is not a price",
        "line 7: neither input nor output",
        "line 8: valid_from: 'yesterday'",
        "line 8: tier_start: 'many'",
        "line 8: time_from: '25:00'",
        "line 9: valid_from: '1969-12-31' is not between",
        "line 11: the same model and conditions as in line 10",
        "line 12: tier_start is 200000, and no line",
    ]
    assert len(found) == len(expected)
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: column provider is missing"),
        ("provider,model\na,b\n", "line 1: column input or output is missing"),
        ("provider,model,inptu\na,b,1\n", "line 1: unknown column 'inptu'; did you mean input?"),
        ("provider,model,input,input\na,b,1,1\n", "line 1: column input stands there twice"),
        ("provider,model,input\n", "no prices in it"),
        ('provider,model,input\na,b,"1\n', "line 2: this is not CSV"),
    ],
)
def test_a_file_that_is_no_price_list_says_why(text: str, expected: str) -> None:
    """Empty files, wrong headers and broken quotes."""
    assert mistakes(text)[0].startswith(expected)


def test_what_the_book_says_can_be_written_and_read() -> None:
    """The book's rows of a model with tiers, days and hours come back as the user's own."""
    for name in (("openai", "gpt-5.4"), ("deepseek", "deepseek-v4-flash"), ("anthropic", "claude-sonnet-4-5")):
        rows = rows_for(*name)
        found = read_prices(write_prices(rows), "x")
        assert [_plain(row) for row in found] == [_plain(row) for row in rows]


def _plain(row: PriceRow) -> tuple[object, ...]:
    return (row.service_tier, row.valid_from, row.time_from, row.tier_start, row.input, row.cached_input, row.output)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever stands in the file, the answer is rows or a list of mistakes."""
    for content in (text, f"provider,model,input,valid_from,time_from,tier_start\n{text}"):
        try:
            found: Sequence[object] = read_prices(content, "x")
        except PriceFileError as error:
            found = error.mistakes
        assert found
