"""The processes that the launcher starts: each has a log file, none outlives the launcher, and a death is named.

A child runs in a session of its own, so a terminal's Ctrl-C reaches only the launcher, which then stops its children in
reverse order of start: SIGTERM to all, one shared grace, then SIGKILL to what is left.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_TAIL_BYTES = 16_384


class ChildDied(RuntimeError):  # noqa: N818 - an event, in the past tense
    """A child that nobody stopped has ended; the message has its name, exit code and last log lines."""


class Child:
    """One process that we started."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        logs: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start `argv`, appending its output to `logs/name.log`; `env` is its whole environment (default: ours)."""
        logs.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.argv = tuple(map(str, argv))
        self.log = logs / f"{name}.log"
        self.stopping = False
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            self._process = subprocess.Popen(
                [*_dies_with_us(), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N where signal N ended it."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        return self.exit_code is None

    def tail(self, n: int = 15) -> str:
        """Return the last `n` lines of its log, none from an earlier process of the same name."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_begins, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return b"".join(log.readlines()[-n:]).decode(errors="replace").rstrip()

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        self.stopping = True
        self._process.terminate()

    def reap(self, grace: float) -> None:
        """Wait for its end and that of what it started; after `grace` seconds kill its process group."""
        deadline = time.monotonic() + grace
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, grace))
        while self._group_signalled(0) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._group_signalled(signal.SIGKILL)
        self._process.wait()

    def _group_signalled(self, number: int) -> bool:
        """Send a signal to its process group; return whether any of it is left."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def stop(self, grace: float = 10.0) -> None:
        self.terminate()
        self.reap(grace)


class Children:
    """The processes of one run, in order of start; leaving the context stops them all."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._started: list[Child] = []

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        child = Child(name, argv, logs=self.logs, env=env, cwd=cwd)
        self._started.append(child)
        return child

    def check(self) -> None:
        """Raise ChildDied for the first child that ended without being stopped by us."""
        for child in self._started:
            if not child.stopping and not child.alive:
                raise ChildDied(f"{child.name} exited with code {child.exit_code}; {child.log} ends:\n{child.tail()}")

    def stop(self, grace: float = 10.0) -> None:
        deadline = time.monotonic() + grace
        for child in reversed(self._started):
            child.terminate()
        for child in reversed(self._started):
            child.reap(deadline - time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _dies_with_us() -> list[str]:
    """Return the wrapper through which Linux sends a child SIGTERM when we end, however we end.

    setpriv (util-linux) sets PR_SET_PDEATHSIG and then becomes the child, with the same pid. Unlike a preexec_fn it
    runs no Python between fork and exec, where a thread of librdkafka could have left a lock held. Linux means the
    thread that started the child, not the process: start children from the main thread.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
