"""What `thalweg up` does about a death: it says which child died and why, and starts it again after a while.

What dies over and over has a fault that a restart does not heal, and ends the run.
"""

import time
from collections.abc import Callable, Collection

from infra.local.processes import Child, ChildDied, Children

DEATHS = 5
WITHIN_S = 60.0
BACKOFF_S = 0.5  # doubles with every death that is not forgotten yet


class Supervisor:
    """Watches children. The death of a kind in `final`, which lost what it kept, is the end of the run at once."""

    def __init__(
        self, children: Children, final: Collection[str] = ("tansu",), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._children, self._final, self._now = children, final, now
        self._deaths: dict[str, list[float]] = {}  # by name, the times of those within WITHIN_S
        self._due: dict[str, float] = {}  # when what is dead starts again

    def check(self) -> None:
        """Name every new death, start again what is due; raise ChildDied where that is no use. Keep the logs short."""
        for child in self._children:
            child.trim_log()
            if child.died and child.name not in self._due:
                self._bury(child)
            if self._due.get(child.name, float("inf")) <= self._now():
                del self._due[child.name]
                child.restart()

    def _bury(self, child: Child) -> None:
        now = self._now()
        deaths = [then for then in self._deaths.get(child.name, []) if now - then < WITHIN_S] + [now]
        if child.kind in self._final:
            raise ChildDied(child.death)
        if len(deaths) == DEATHS:
            raise ChildDied(f"{DEATHS} deaths of {child.name} in {now - deaths[0]:.0f} s, the last: {child.death}")
        wait = BACKOFF_S * 2 ** (len(deaths) - 1)
        self._deaths[child.name], self._due[child.name] = deaths, now + wait
        print(f"{child.death}\n{child.name} starts again in {wait:g} s, death {len(deaths)} of {DEATHS}", flush=True)
