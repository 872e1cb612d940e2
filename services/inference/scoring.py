"""The inference stage: which version is live, its scores from Triton, and the core's records out of them."""

from collections.abc import Callable, Mapping, Sequence

from services.inference.core import InferenceCore
from services.inference.mix import Mix
from services.inference.triton import Triton
from services.runtime.errors import Retry
from services.runtime.models import Lineup, decode_event
from services.runtime.records import Outgoing, Record
from services.runtime.stage import Batches
from services.runtime.stream import Stream
from services.runtime.waiting import Wait


class Scoring:
    """Scores the batches of all partitions at once. A Retry leaves nothing behind, as nothing is kept."""

    stateful = False

    def __init__(self, stream: Stream, triton: Triton, models: Callable[[], Sequence[Record]]) -> None:
        self._core = InferenceCore(stream)
        self._triton = triton
        self._models = models  # what is new on `models`, in order
        self._lineup = Lineup(stream.feature_set)

    def fold(self, batches: Batches) -> list[Outgoing]:
        version = self._live_version()
        read = {partition: self._core.read(records) for partition, records in batches.items()}
        answers = self._triton.score([self._core.vectors(batch) for batch in read.values()], version)
        return [
            out
            for (partition, batch), scores in zip(read.items(), answers, strict=True)
            for out in self._core.write(partition, batch, Mix(scores))
        ]

    def warm_up(self, wait: Wait) -> None:
        """Wait for Triton and a first version, and have it load and import what that version needs."""
        while True:
            try:
                self._triton.score([self._core.no_vectors()], self._live_version())
            except Retry as error:
                wait.pause(str(error))
            else:
                wait.over()
                return

    def _live_version(self) -> int:
        while records := self._models():
            for record in records:
                self._lineup.fold(decode_event(record.value))
        if self._lineup.online is None:
            raise Retry("no version of the online model is published yet; is the learner up?")
        return self._lineup.online

    def open(self, partition: int, state: bytes | None) -> None:
        """Nothing to open: no state."""

    def close(self, partition: int) -> None:
        """Nothing to close: no state."""

    def extra(self) -> list[Outgoing]:
        return []

    def full(self, partition: int) -> Mapping[str, str]:
        del partition
        return {}

    def snapshot(self, partition: int) -> bytes | None:
        del partition
        return None
