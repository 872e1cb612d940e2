"""The learner's stage: the fold, and a new version on `models` every so often.

Which versions exist is the wall clock's business; what a version contains is not.
"""

import time

import msgspec

from services.learner.core import LearnerCore
from services.runtime.artifacts import Artifacts
from services.runtime.clock import Clock
from services.runtime.errors import Retry
from services.runtime.models import ONLINE, Published
from services.runtime.records import Outgoing
from services.runtime.stage import Cores
from services.runtime.stream import Stream
from services.runtime.waiting import Wait


class Publishing(Cores[LearnerCore]):
    """Cores that publish. The first version, of no examples, goes out before the first event.

    What can't be stored is not published: the model learns on, and a later version is tried. Artifacts are
    kept of the last `keep` versions; an older one can be made again from `examples`.
    """

    def __init__(self, stream: Stream, artifacts: Artifacts, keep: int, clock: Clock, wait: Wait) -> None:
        super().__init__(lambda _: LearnerCore(stream))
        LearnerCore(stream)  # a wrong definition is refused, and River imported, before a partition is taken
        self._stream, self._artifacts, self._keep, self._clock, self._wait = stream, artifacts, keep, clock, wait
        self._published: dict[int, int] = {}  # partition: the version that went out last
        self._due = clock.now()
        self.newest: tuple[int, float] | None = None  # the newest version, and when it went out: seconds since 1970

    def open(self, partition: int, state: bytes | None) -> None:
        super().open(partition, state)
        self._published.pop(partition, None)
        self._due = self._clock.now()

    def learned(self) -> int:
        """Return how many examples the models of these partitions have learned: of one, its version."""
        return sum(core.learned for core in self.cores.values())

    def extra(self) -> list[Outgoing]:
        if self._clock.now() < self._due:
            return []
        self._due = self._clock.now() + self._stream.pipeline.online.snapshot_every.seconds
        new = {p: core for p, core in self.cores.items() if self._published.get(p) != core.learned}
        try:
            records = [self._publish(core) for core in new.values()]
        except Retry as error:
            self._wait.note(str(error))
            return []
        self._wait.over()
        self._published |= {partition: core.learned for partition, core in new.items()}
        if new:
            self.newest = max(self._published.values()), time.time()
        return records

    def _publish(self, core: LearnerCore) -> Outgoing:
        self._artifacts.write(ONLINE, core.learned, core.artifact())
        self._artifacts.prune(ONLINE, self._keep)
        parts = ONLINE, core.learned, self._stream.feature_set, core.learned, core.log_loss, core.unretractable
        return Outgoing(
            self._stream.topic("models"), msgspec.json.encode(Published(*parts)), key=ONLINE.encode(), partition=0
        )
