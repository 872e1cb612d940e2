"""The labels' stage: the cores, and when one of them can take no more of an input."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from services.labels.core import LabelsCore
from services.labels.maturity import summed
from services.labels.segments import Disk
from services.runtime.health import Health
from services.runtime.labelled import Labelled
from services.runtime.quality import together
from services.runtime.records import Outgoing
from services.runtime.stage import Batches, Cores, Storing
from services.runtime.stream import Stream

SHOWN = 24  # hours
EARLY = 500_000


class Joining(Cores[LabelsCore]):
    """Cores in each of which at most about `most` rows wait, and labels too: what is more stays in the log.

    Labels that wait for their rows, which is unusual, are kept as they are, so no more than `EARLY` may.

    Which pairs meet does not depend on how the inputs interleave, so reading one of them later changes no example. Only
    when both are full would nothing move any more, and then the bound is what has to give.
    """

    def __init__(self, stream: Stream, most: int, health: Health, disk: Callable[[int], Disk]) -> None:
        super().__init__(lambda partition: LabelsCore(stream, partition, self._disks[partition]))
        self._open_disk, self._disks = disk, dict[int, Disk]()
        self._scored, self._labels, self._most = stream.topic("scored"), stream.topic("labels"), most
        self._health = health

    def open(self, partition: int, state: bytes | None) -> None:
        self._disks[partition] = self._open_disk(partition)
        super().open(partition, state)

    def close(self, partition: int) -> None:
        super().close(partition)
        self._disks.pop(partition, None)

    def snapshot(self, partition: int) -> Storing:
        core = self.cores[partition]
        return self._disks[partition].saving(core.segments, core.snapshot())

    def fold(self, batches: Batches) -> list[Outgoing]:
        outgoing = super().fold(batches)
        self._health.labelled = told(list(self.cores.values()))
        return outgoing

    def waiting(self) -> tuple[int, int]:
        """Return how many rows wait for a label, and labels for a row, in all partitions."""
        rows, labels = zip((0, 0), *(core.waiting for core in list(self.cores.values())), strict=True)
        return sum(rows), sum(labels)

    def full(self, partition: int) -> Mapping[str, str]:
        rows, labels = self.cores[partition].waiting
        most_labels = min(self._most, EARLY)
        both = rows >= self._most and labels >= most_labels
        advice = ", neither of which comes while both wait: raise THALWEG_LABELS_WAITING" if both else ""
        full = {}
        if rows >= self._most:
            full[self._scored] = f"{rows} rows wait for their labels{advice}"
        if labels >= most_labels:
            full[self._labels] = f"{labels} labels wait for their rows{advice}"
        return full


def told(cores: Sequence[LabelsCore]) -> Labelled:
    """Return what these partitions say together."""
    totals = Counter[str]()
    for core in cores:
        totals.update(core.totals)
    quality = together(core.quality for core in cores)
    hours = summed([core.maturity.hours for core in cores], SHOWN)
    return Labelled(dict(totals), quality.n, quality.log_loss, quality.accuracy, hours)
