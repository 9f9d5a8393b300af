"""Every recorded exchange says on its span what the provider's own JSON says; expectations in ``bench.recorded``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.recorded import folder
from bench.recordings import compare

FOLDER = folder()
FILES = sorted(FOLDER.glob("*.jsonl")) if FOLDER else []


@pytest.mark.skipif(not FOLDER, reason="OTEL_SESSIONS_RECORDINGS is not set")
def test_the_recordings_are_there() -> None:
    """The folder that the environment names holds recordings."""
    assert len(FILES) > 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_exchange_is_read_as_it_was(path: Path) -> None:
    """Which exchanges are calls, of whom, their models, finish reasons and usage: no difference in any."""
    compared = compare(path)
    assert compared
    assert [item.differences() for item in compared if item.differences()] == []
