"""Runs a service whose tracing is turned on and off while it runs: `python loadtests/switched.py -m services.features`.

The first byte of the file `SWITCH` names says which it is, by the batch and by the request.
"""

import mmap
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from services.ingestion import followed
from services.runtime import tracing
from services.runtime.clock import Clock
from services.runtime.records import Record
from services.runtime.sampling import Rule
from services.runtime.settings import Settings
from services.runtime.spans import Spans
from services.runtime.stream import Stream
from services.runtime.tracing import Batch, Tracing, Untraced

SWITCH = "LOADTEST_SWITCH"


class Switch:
    """A byte that several processes see: 1 is on."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._byte = mmap.mmap(file.fileno(), 1)

    @classmethod
    def make(cls, path: Path) -> "Switch":
        """Make the file, and have it off."""
        path.write_bytes(b"\0")
        return cls(path)

    @property
    def on(self) -> bool:
        return bool(self._byte[0])

    def turn(self, *, on: bool) -> None:
        self._byte[0] = on


class Switched:
    """Follows batches while the switch is on."""

    def __init__(self, switch: Switch, traced: Tracing) -> None:
        self._switch, self._traced, self._plain = switch, traced, Untraced()
        self._now: Tracing = self._plain

    def batch(self, records: Sequence[Record]) -> Batch:
        self._now = self._traced if self._switch.on else self._plain
        return self._now.batch(records)

    def context(self, partition: int) -> str | None:
        return self._now.context(partition)

    def close(self) -> None:
        self._traced.close()


class SwitchedRequests(followed.Following):
    """Follows requests while the switch is on."""

    def __init__(self, spans: Spans, rule: Rule, clock: Clock) -> None:
        super().__init__(spans, rule, clock)
        self._switch, self._plain = _switch(), followed.Unfollowed()

    def request(self, route: str, traceparent: str | None, tracestate: str) -> followed.Followed:
        if self._switch.on:
            return super().request(route, traceparent, tracestate)
        return self._plain.request(route, traceparent, tracestate)  # type: ignore[return-value]  # it is asked for the same


def _switch() -> Switch:
    return Switch(Path(os.environ[SWITCH]))


def main() -> None:
    opened = tracing.open_tracing

    def open_switched(
        service: str, settings: Settings, stream: Stream, learned: Callable[[], int] | None = None
    ) -> Tracing:
        return Switched(_switch(), opened(service, settings, stream, learned))

    tracing.open_tracing = open_switched
    followed.Following = SwitchedRequests  # type: ignore[misc]
    module = sys.argv[2]
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
