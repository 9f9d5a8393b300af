"""What a failed send means: passing, or final for the destination, or final for this batch.

Error codes: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
"""

from __future__ import annotations

from enum import Enum

from otel_sessions.base.errors import ForkedStoreError, SchemaError, StoreHeldError, StoreUnavailableError


class Verdict(Enum):
    """What to do with the batch.

    ``PASSING``: try again. ``ELSEWHERE``: another process can send it, this one cannot, or not now.
    ``DESTINATION``: no batch can be sent until someone acts. ``BATCH``: this one never can.
    """

    PASSING = "passing"
    ELSEWHERE = "elsewhere"
    DESTINATION = "destination"
    BATCH = "batch"


# Missing table, column, database, function; read-only; no access; unknown user, wrong password.
_DESTINATION_CODES = frozenset({8, 10, 16, 20, 46, 47, 60, 81, 164, 192, 193, 194, 195, 291, 392, 497, 516})


def verdict(error: BaseException) -> Verdict:
    """How ``error``, raised by a send, is to be taken. Errors that say nothing count against the batch alone."""
    if isinstance(error, (StoreHeldError, ForkedStoreError)):
        return Verdict.ELSEWHERE
    if isinstance(error, StoreUnavailableError):
        return Verdict.PASSING
    if isinstance(error, SchemaError) or code_of(error) in _DESTINATION_CODES:
        return Verdict.DESTINATION
    return Verdict.BATCH


def code_of(error: BaseException | None) -> int | None:
    """ClickHouse's error code, from ``error`` or from what caused it."""
    while error is not None:
        code = getattr(error, "code", None)
        if isinstance(code, int):
            return code
        error = error.__cause__
    return None
