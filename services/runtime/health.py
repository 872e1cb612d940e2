"""What a service is doing, for the probes of whoever runs it: written by its loop, read by any thread.

Alive (`/healthz`) is a service that gets on, or waits for something that it can name: another start would not help it.
Ready (`/readyz`) is one whose partitions are restored and that waits for nothing.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from services.runtime.clock import Clock
from services.runtime.labelled import Labelled
from services.runtime.lag import Lag
from services.runtime.logs import masked
from services.runtime.metrics import Metrics
from services.runtime.waiting import Wait

SLOW_S = 3.0  # a step that takes longer is waited for
STUCK_S = 60.0  # a step that depends on nobody outside and takes longer will not end
Status: TypeAlias = Literal["ready", "waiting", "joining", "restoring", "stopping", "stuck", "ended"]


class Step(msgspec.Struct, frozen=True):
    """What the loop may be in the middle of. `ours`: it depends on nobody outside."""

    name: str
    ours: bool = False


START = Step("its start")
CONNECT = Step("the broker, to begin")
READ = Step("a poll of the log", ours=True)
FOLD = Step("the fold of a batch", ours=True)
COMMIT = Step("the broker, to commit a batch")
RESTORE = Step("the restore of its partitions")
SNAPSHOT = Step("the snapshot store")
STOP = Step("its end")
ENDED = Step("nothing any more")


class Report(msgspec.Struct, frozen=True):
    """The body of a probe's answer. `restoring` and `lag` count records: by partition, and by topic.

    `busy` is what a service does beside its fold, and `labelled` what the labels service tells.
    """

    service: str
    status: Status
    waiting_for: str | None = None
    since_s: float | None = None
    partitions: tuple[int, ...] | None = None
    restoring: Mapping[int, int] = {}
    folded: int = 0
    lag: Mapping[str, int] | None = None
    busy: str | None = None
    labelled: Labelled | None = None

    @property
    def alive(self) -> bool:
        return self.status not in ("stuck", "ended")

    @property
    def ready(self) -> bool:
        return self.status == "ready"


class Health:
    """The state behind the report. A write replaces one attribute by a value that nobody changes any more.

    `fold` says what a fold depends on, where that is somebody outside; it has to give up by itself. `metrics` are those
    of the process, `unread` is how far it is behind, in more detail than `lag`.
    """

    def __init__(self, service: str, clock: Clock, fold: Step = FOLD) -> None:
        self.clock = clock
        self._service, self._fold = service, fold
        self._waits: tuple[Wait, ...] = ()
        now = clock.now()
        self._step = (START, now)
        self._share: tuple[tuple[int, ...] | None, Mapping[int, int], float] = (None, {}, now)
        self.metrics, self.unread = Metrics(), Lag()
        self.folded = 0
        self.lag: Mapping[str, int] | None = None  # topic: records that are not read yet
        self.busy: str | None = None
        self.labelled: Labelled | None = None

    def wait(self) -> Wait:
        """Return one more thing that may have to be waited for; while it is, the service is not ready."""
        wait = Wait(self.clock)
        self._waits += (wait,)
        return wait

    def enter(self, step: Step) -> None:
        """Note that the step before is done, and this one begins."""
        self._step = (self._fold if step is FOLD else step, self.clock.now())

    def own(self, partitions: tuple[int, ...] | None, restoring: Mapping[int, int]) -> None:
        """Note the partitions (None: the group gave none out yet) and how many records are to be folded in silence."""
        known, left, since = self._share
        changed = (known is None, not left) != (partitions is None, not restoring)
        self._share = (partitions, restoring, self.clock.now() if changed else since)

    @property
    def partitions(self) -> tuple[int, ...] | None:
        return self._share[0]

    def report(self) -> Report:
        now = self.clock.now()
        partitions, restoring, _ = self._share
        status, reason, since = self._status(now)
        lasted = None if since is None else round(max(now - since, 0.0), 1)
        reason = None if reason is None else masked(reason)  # it may name a place by its URL
        told = self.folded, self.lag, self.busy, self.labelled
        return Report(self._service, status, reason, lasted, partitions, restoring, *told)

    def _status(self, now: float) -> tuple[Status, str | None, float | None]:
        step, began = self._step
        if step is ENDED or step is STOP:
            return "ended" if step is ENDED else "stopping", step.name, began
        if step.ours and now - began > STUCK_S:
            return "stuck", step.name, began
        if waits := [(wait.since, why) for wait in self._waits if (why := wait.why) is not None]:
            since, why = min(waits)
            return "waiting", why, since
        if now - began > SLOW_S or step is START:
            return "waiting", step.name, began
        return self._joined()

    def _joined(self) -> tuple[Status, str | None, float | None]:
        partitions, restoring, since = self._share
        if partitions is None:
            return "joining", "its share of the partitions, from the broker", since
        if restoring:
            return "restoring", "the silent fold of what was committed", since
        return "ready", None, None
