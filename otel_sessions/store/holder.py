"""Who holds a chDB folder: the engine locks its file ``status``, in which it writes the number of its process.

Asked before the engine is opened, which says so on the host's stderr, and does not say who.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

UNKNOWN = 0


def other_holder(folder: Path) -> int | None:
    """The number of the other process whose engine has ``folder`` open, ``UNKNOWN`` if it cannot be told; None: nobody."""
    if sys.platform == "win32":
        return None  # where there is no chDB
    import fcntl

    try:
        with (folder / "status").open("rb") as status:
            try:
                fcntl.flock(status, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = re.match(rb"PID: (\d+)", status.read(100))
                process = int(found[1]) if found else UNKNOWN
                return None if process == os.getpid() else process
    except OSError:
        pass
    return None
