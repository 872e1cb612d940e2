"""The inference stage: which versions are live, their scores from Triton, and the core's records out of them."""

from collections.abc import Callable, Mapping, Sequence

from services.inference.candidates import Candidates
from services.inference.core import InferenceCore
from services.inference.live import Live
from services.inference.mix import Mix, Scores
from services.inference.triton import Asked, Triton
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import Refusal, Retry
from services.runtime.models import Lineup, decode_event
from services.runtime.records import Outgoing, Record
from services.runtime.stage import Batches
from services.runtime.stream import Stream
from services.runtime.tracing import Tracing, Untraced
from services.runtime.waiting import Wait


class Scoring:
    """Scores the batches of all partitions at once. A Retry leaves nothing behind, as nothing of a batch is kept.

    `online` and `batch` are the clients of the two models; `models` returns what is new on `models`, in order.
    """

    stateful = False

    def __init__(
        self,
        stream: Stream,
        online: Triton,
        batch: Triton,
        models: Callable[[], Sequence[Record]],
        clock: Clock | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._core, self._tracing = InferenceCore(stream), tracing or Untraced()
        self._online, self._models = online, models
        self._lineup, self._live = Lineup(stream.feature_set), Live()
        self._candidates = Candidates(stream, batch, self._lineup, clock or SystemClock())

    def fold(self, batches: Batches) -> list[Outgoing]:
        version = self._live_version()
        read = {partition: self._core.read(records) for partition, records in batches.items()}
        vectors = [self._core.vectors(batch) for batch in read.values()]
        contexts = [self._tracing.context(partition) for partition in batches]
        online, asked = self._online.ask(vectors, version, contexts), self._candidates.ask(vectors, contexts)
        answers = self._answers(online, version)
        others = self._candidates.answers(asked, [scores.values for scores in answers])
        outgoing = []
        for place, ((partition, batch), scores) in enumerate(zip(read.items(), answers, strict=True)):
            said = {version: values[place] for version, values in others.items()}
            beside = self._candidates.beside(said, batch.column("key").to_pylist()) if said else []
            traces = self._core.traces(batches[partition])
            outgoing += self._core.write(partition, batch, Mix(scores, beside), traces)
        return outgoing

    def warm_up(self, wait: Wait) -> None:
        """Wait for Triton and a first version, and have it load and import what the live versions need."""
        while True:
            try:
                version = self._live_version()
                self._answers(self._online.ask([self._core.no_vectors()], version), version)
            except Retry as error:
                wait.pause(str(error))
            else:
                wait.over()
                break
        self._candidates.warm_up(wait)

    def _live_version(self) -> int:
        self._follow()
        if self._lineup.online is None:
            raise Retry("no version of the online model is published yet; is the learner up?")
        return self._live.version(self._lineup.online)

    def _answers(self, asked: Asked, version: int) -> list[Scores]:
        """Return what the online model answers; where Triton refuses that version, the next try asks another."""
        try:
            answers = asked.answers()
        except Refusal as error:
            self._live.refused(version, error)
            raise
        self._live.answered(version)
        return answers

    def _follow(self) -> None:
        while records := self._models():
            for record in records:
                self._lineup.fold(decode_event(record.value))

    def open(self, partition: int, state: bytes | None) -> None:
        """Nothing to open: no state."""

    def close(self, partition: int) -> None:
        """Nothing to close: no state."""

    def extra(self) -> list[Outgoing]:
        """Load what is to be scored before an event needs it."""
        self._follow()
        self._candidates.load()
        return [*self._candidates.withdrawn()]

    def full(self, partition: int) -> Mapping[str, str]:
        del partition
        return {}

    def snapshot(self, partition: int) -> bytes | None:
        del partition
        return None
