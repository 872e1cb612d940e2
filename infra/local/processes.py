"""The processes that the launcher starts: each has a log file, none outlives the launcher, and a death is named.

A child runs in a session of its own, so a terminal's Ctrl-C reaches only the launcher, which then stops its children in
reverse order of start: SIGTERM to all, one shared grace, then SIGKILL to what is left. What was stopped or killed on
purpose, with a verb of its Child, has not died.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

LONGEST_LOG = 64 << 20  # bytes
_TAIL_BYTES = 16_384


class ChildDied(RuntimeError):  # noqa: N818 - an event, in the past tense
    """A child that nobody stopped has ended; the message has its name, exit code and last log lines."""


class Child:
    """One process that we started, and can start again. Its `kind` is what it is one of: `features-2` is `features`."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        logs: Path,
        kind: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Start `argv`, appending its output to `logs/name.log`; `env` is its whole environment (default: ours).

        `before` is called each time before it is started: it clears away what an earlier process may have left.
        """
        logs.mkdir(parents=True, exist_ok=True)
        self.name, self.kind = name, kind or name
        self.argv = tuple(map(str, argv))
        self.log = logs / f"{name}.log"
        self._env, self._cwd, self._before = env, cwd, before
        self._begin()

    def _begin(self) -> None:
        if self._before is not None:
            self._before()
        self.stopping = False
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            self._process = subprocess.Popen(
                [*dies_with_us(), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
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

    @property
    def died(self) -> bool:
        """Whether it ended without being stopped or killed by us."""
        return not self.stopping and not self.alive

    @property
    def death(self) -> str:
        """How it died, and what it said last."""
        return f"{self.name} exited with code {self.exit_code}; {self.log} ends:\n{self.tail()}"

    def tail(self, n: int = 15) -> str:
        """Return the last `n` lines of its log, none from an earlier process of the same name."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_begins, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return b"".join(log.readlines()[-n:]).decode(errors="replace").rstrip()

    def trim_log(self) -> None:
        """Keep the newer half of a log that has grown too long; what is said in that very moment may be lost."""
        if not self.log.exists() or (size := self.log.stat().st_size) <= LONGEST_LOG:
            return
        with self.log.open("r+b") as log:
            log.seek(size - LONGEST_LOG // 2)
            rest = log.read().partition(b"\n")[2]
            log.truncate(0)
            log.seek(0)
            log.write(rest)  # the child appends, so it goes on behind that
        self._log_begins = max(0, self._log_begins - size + len(rest))

    def terminate(self) -> None:
        """Ask it to end, without waiting; a paused one must go on to hear it."""
        self.stopping = True
        self._process.terminate()
        self.resume()

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

    def kill(self) -> None:
        """Kill it and what it started, as a crash would; return when they are gone."""
        self.stopping = True
        self._group_signalled(signal.SIGKILL)
        self.reap(1.0)

    def pause(self) -> None:
        """Freeze it and what it started; to others it looks alive and does not answer."""
        self._group_signalled(signal.SIGSTOP)

    def resume(self) -> None:
        self._group_signalled(signal.SIGCONT)

    def restart(self) -> None:
        """Start it as it was started first, with the same command and environment; kill what is left of it before."""
        self.kill()
        self._begin()


class Children:
    """The processes of one run by name, in order of start; leaving the context stops them all."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._started: dict[str, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._started.values()))

    def __getitem__(self, name: str) -> Child:
        if name not in self._started:
            raise LookupError(f"no child {name!r}; there are {', '.join(self._started) or 'none'}")
        return self._started[name]

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        kind: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        before: Callable[[], None] | None = None,
    ) -> Child:
        """Start a child; raise ValueError if one of that name runs."""
        if name in self._started and self._started[name].alive:
            raise ValueError(f"{name} runs already, as process {self._started[name].pid}")
        child = Child(name, argv, logs=self.logs, kind=kind, env=env, cwd=cwd, before=before)
        self._started[name] = child
        return child

    def remove(self, name: str) -> None:
        """Stop a child and forget it."""
        self[name].stop()
        del self._started[name]

    def check(self) -> None:
        """Raise ChildDied for the first child that ended without being stopped by us."""
        for child in self:
            if child.died:
                raise ChildDied(child.death)

    def stop(self, grace: float = 10.0, kinds: Collection[str] | None = None) -> None:
        """Stop all, or those of some kinds, which share one grace."""
        deadline = time.monotonic() + grace
        ending = [child for child in reversed(list(self)) if kinds is None or child.kind in kinds]
        for child in ending:
            child.terminate()
        for child in ending:
            child.reap(deadline - time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def dies_with_us() -> list[str]:
    """Return the wrapper through which Linux sends a child SIGTERM when we end, however we end.

    setpriv (util-linux) sets PR_SET_PDEATHSIG and then becomes the child, with the same pid. Unlike a preexec_fn it
    runs no Python between fork and exec, where a thread of librdkafka could have left a lock held. Linux means the
    thread that started the child, not the process: start children from the main thread.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
