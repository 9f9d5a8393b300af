"""Every exception that a caller of ours can see.

::

    OtelSessionsError
    ├── SettingError      a setting has a value that is not allowed
    ├── StoreError        the store refused or could not be reached
    │   ├── StoreUnavailableError  passing: try again later
    │   │   └── StoreHeldError         another process holds the chDB folder
    │   ├── SchemaError            the schema is missing, changed, or newer than this package
    │   └── ForkedStoreError       a chDB store was used in a forked child
    ├── PriceFileError    a file of prices has mistakes
    ├── SpoolError        the spool on disk cannot be read or written
    └── NotFoundError     a session id that the store does not hold

None of them is raised inside the host's request path.
"""

from __future__ import annotations

from collections.abc import Sequence


class OtelSessionsError(Exception):
    """Base of all errors of this package."""


class SettingError(OtelSessionsError, ValueError):
    """A setting has a value that is not allowed.

    The message names the setting, the value it got, what is allowed, and how to mend it.
    """

    def __init__(self, setting: str, value: object, allowed: str, fix: str) -> None:
        super().__init__(f"{setting}: got {value!r}, allowed is {allowed}. {fix}")
        self.setting = setting


class StoreError(OtelSessionsError):
    """The store refused an operation."""


class StoreUnavailableError(StoreError):
    """The store could not be reached; the same call may succeed later."""


class StoreHeldError(StoreUnavailableError):
    """Another process holds the chDB folder, which only one can."""


class SchemaError(StoreError):
    """The schema in the store is missing, was changed by hand, or is newer than this package."""


class ForkedStoreError(StoreError):
    """A chDB store was opened in the parent process; the engine hangs in a forked child."""


class SpoolError(OtelSessionsError):
    """The spool cannot be used now: full, read-only, busy, or the disk fails."""


class PriceFileError(OtelSessionsError, ValueError):
    """A file of prices has mistakes; ``mistakes`` lists them, each with its line."""

    def __init__(self, name: str, mistakes: Sequence[str]) -> None:
        super().__init__(f"{name}: {'; '.join(mistakes)}")
        self.name = name
        self.mistakes = tuple(mistakes)


class NotFoundError(OtelSessionsError, LookupError):
    """No session with that id; ``closest`` holds the ids that resemble it, best first."""

    def __init__(self, session_id: str, closest: tuple[str, ...] = ()) -> None:
        hint = f" Closest: {', '.join(closest)}." if closest else " The store holds no session that resembles it."
        super().__init__(f"no session {session_id!r}.{hint}")
        self.session_id = session_id
        self.closest = closest
