"""The process that trains, as the service sees it: one at a time, ready or at work, and never left behind."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

COMMAND = (sys.executable, "-m", "services.trainer.fit")


class Order(msgspec.Struct, frozen=True):
    """Who asks for a training, and from which event time on (µs since 1970) the world is new, where that is why."""

    by: str
    since: int | None = None


class Apprentice:
    """Holds the process by its standard input: it ends when that closes, as it does however we end.

    With a `niceness` above 0 those who serve go first.
    """

    def __init__(self, niceness: int, command: Sequence[str] = COMMAND) -> None:
        self._niceness, self._command = niceness, command
        self._process: subprocess.Popen[bytes] | None = None
        self.at_work = False

    def prepare(self) -> None:
        """Have one ready, as it takes seconds to load PyTorch; if nobody asks for a minute, it leaves."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, self._niceness)

    def ask(self, order: Order) -> None:
        """Have it train."""
        self.prepare()
        self.at_work = True
        assert self._process is not None  # noqa: S101 - for mypy
        assert self._process.stdin is not None  # noqa: S101 - for mypy
        with suppress(BrokenPipeError):  # it has just left; `ended` tells
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()

    def ended(self) -> int | None:
        """Return the exit status of one that was asked and has ended, once; -N where signal N ended it."""
        if self._process is None or (status := self._process.poll()) is None:
            return None
        was_at_work, self.at_work = self.at_work, False
        self._let_go()
        return status if was_at_work else None

    def stop(self) -> None:
        """End it and wait for that."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.at_work = False
            self._let_go()

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process = None
