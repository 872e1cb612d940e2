"""The error families that the loop understands.

    ThalwegError
    ├── Retry     transient: nothing was done, the same batch may be tried again (a broker or Triton is away)
    │   └── Refusal   it was there and would not: trying again helps only once something has changed
    ├── Unusable  a snapshot only: it is passed over for an older one, or for the log from its beginning
    ├── Reject    this record only: it goes to `dead-letter` with the reason, and the stream goes on
    └── Stop      the state can no longer be trusted, or a person has to act: the process ends, with the reason
        └── ConfigError   a setting or a stream folder is wrong

A vendor's error becomes one of these once, at the edge. The message says what the operator should do.
"""


class ThalwegError(Exception):
    """Root of everything that Thalweg raises on purpose."""


class Retry(ThalwegError):  # noqa: N818 - named by what the loop does with it
    """Transient: nothing was done; try the same batch again."""


class Refusal(Retry):
    """Whoever was asked is there and would not; the same may be refused again until something has changed."""


class Unusable(ThalwegError):  # noqa: N818 - said of a snapshot
    """A snapshot can't be restored; the message says why."""


LONGEST = 1000  # characters of a rejection's message: it may quote what it refuses


class Reject(ThalwegError):  # noqa: N818 - named by what the loop does with it
    """One record is unusable; `reason` is a short word for filters, the message the whole story."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message if len(message) <= LONGEST else message[: LONGEST - 1] + "…")
        self.reason = reason


class Stop(ThalwegError):  # noqa: N818 - named by what the loop does with it
    """The process must end: its state can't be trusted, or somebody has to act."""


class ConfigError(Stop):
    """A setting or a stream folder is wrong; the message names the place, what was found and what would be right."""
