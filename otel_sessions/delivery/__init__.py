"""From ended spans to the place that keeps them, off the caller's thread.

::

    host's threads      │ batching thread                             │ sending thread
                        │                                             │
    on_end ──▶ intake ──┼─▶ cut ──▶ price ──▶ encode ──▶ outbox ──────┼──▶ send ──▶ delivered
               bounded  │                                on disk:     │      ├──▶ again, later
               queue    │                                spool        │      └──▶ dead (refused for good)
                        │                                or in memory │
    ledger: every span that ended is in memory, on disk, delivered, or dropped for a stated reason

batch      what travels: a token, a body, how many spans
intake     the bounded queue, the only code that runs on the host's threads
packing    spans as bytes while they wait
cutting    gigantic attribute values
numbering  which span of its session and process each is
batcher    the batching thread
outbox     what waits to be sent, on disk or in memory
spool      batches on disk, shared by processes; database, owners: its file, and whose batches are whose
sender     the sending thread: retries; verdict: which failures are passing
ledger     the accounts
delivery   the stages as one span processor
metrics    the accounts as OpenTelemetry metrics
"""

from otel_sessions.delivery.batch import Limits, Send
from otel_sessions.delivery.cutting import MAX_VALUE, cutting
from otel_sessions.delivery.delivery import Delivery, push
from otel_sessions.delivery.spool import DeadBatch, Spool, SpoolPlace, SpoolStatus, spool_place

__all__ = [
    "MAX_VALUE",
    "DeadBatch",
    "Delivery",
    "Limits",
    "Send",
    "Spool",
    "SpoolPlace",
    "SpoolStatus",
    "cutting",
    "push",
    "spool_place",
]
