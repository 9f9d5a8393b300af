"""Which process a batch belongs to, and whether that process still runs.

A process is told from a later one with the same number by its start time. Where that cannot be read, or the process
is in another container, its last sign of life decides.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that uses a spool. ``started`` is 0 where the system does not tell; ``seen`` is in Unix seconds."""

    id: int
    machine: str
    pid: int
    started: int
    seen: float

    def is_gone(self, now: float) -> bool:
        """Its batches may be taken over."""
        if self.machine == this_machine():
            started = start_time(self.pid)
            if started is None:
                return True
            if started and self.started:
                return started != self.started
        # abs: a sign of life from the future means that the clock was set back, not that all is well for years.
        return abs(now - self.seen) > LEASE_SECONDS


def start_time(pid: int) -> int | None:
    """When process ``pid`` of this machine started, in clock ticks since boot; 0 unknown; None if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0 if _exists(pid) else None
    # The name in parentheses may hold anything; state is field 3, the start time field 22 (proc(5)).
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in b"ZX" else int(fields[19])


def _exists(pid: int) -> bool:
    if os.name == "nt":
        # There a signal 0 is not a question.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@cache
def this_machine() -> str:
    """Names the boot and the process numbering that this process lives in; containers differ."""
    boot = platform.node()
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    with suppress(OSError):
        boot += " " + os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no real path, pathlib would resolve it
    return boot
