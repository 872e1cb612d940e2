"""The proof: what was acknowledged against what the log holds, read by nobody's word but its own.

Every accepted event has one prediction, every accepted label one example; what was refused is a repetition. The
features and scores are those of an undisturbed fold, and so is the learner's state, by the digest of all its bytes.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import closing

import msgspec

from services.learner.core import LearnerCore
from services.replay.verify import Span, verify
from services.replay.versions import Versions
from services.runtime.artifacts import Artifacts
from services.runtime.dead_letters import DeadLetter
from services.runtime.errors import Stop
from services.runtime.history import KafkaHistory, read_all
from services.runtime.models import ONLINE
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.settings import Settings
from services.runtime.stream import Stream

_EXAMPLE = 5  # ids of a violation that are named


class _Named(msgspec.Struct):
    event_id: str


class Proof:
    """Counts violations, a record or a partition each, says what they are, and how many records were looked at."""

    def __init__(self, settings: Settings, stream: Stream) -> None:
        self._settings, self._stream = settings, stream
        self._artifacts = Artifacts(settings.data, stream.name)
        self.violations = 0
        self.said: list[str] = []  # a line a sort of violation, or the first of that sort
        self.checked: Counter[str] = Counter()
        self.duplicates_refused = 0
        self.model = ""  # the learner's last version, and the digest of all its bytes

    def run(self, events: AbstractSet[str], labels: AbstractSet[str]) -> None:
        """Check everything against the ids that were acknowledged."""
        self._once("predictions", events, Counter(self._predicted()))
        self._once("examples", labels, Counter(self._learned_from()))
        self._refused()
        self._folded_again()
        self._learner()

    def _records(self, kind: str) -> Iterator[Record]:
        for batch in read_all(self._settings, self._stream.topic(kind)):
            self.checked[kind] += len(batch)
            yield from batch

    def _predicted(self) -> Iterator[str]:
        decode = msgspec.json.Decoder(_Named).decode
        return (decode(record.value).event_id for record in self._records("predictions"))

    def _learned_from(self) -> Iterator[str]:
        frame = examples_frame(self._stream)
        for record in self._records("examples"):
            yield from frame.decode(record).column("event_id").to_pylist()

    def _once(self, kind: str, wanted: AbstractSet[str], found: Counter[str]) -> None:
        self._blame(f"without {kind}", wanted - found.keys())
        self._blame(f"{kind} of nothing that was acknowledged", found.keys() - wanted)
        self._blame(f"more than once in {kind}", {name for name, times in found.items() if times > 1})

    def _refused(self) -> None:
        letters = [msgspec.json.decode(r.value, type=DeadLetter) for r in self._records("dead-letter")]
        self.duplicates_refused = sum(letter.reason == "duplicate" for letter in letters)
        others = {f"{x.topic}/{x.partition}/{x.offset}: {x.reason}" for x in letters if x.reason != "duplicate"}
        self._blame("refused, though good", others)

    def _folded_again(self) -> None:
        """Have features, scores, late and refused events compared with an undisturbed fold."""
        with closing(KafkaHistory(self._settings)) as history:
            examples = self._stream.topic("examples")
            versions = Versions(self._stream, self._artifacts, lambda: history.read_topic(examples))
            for found in verify(self._stream, history, versions, Span(), lambda *_: None):
                self.checked["features"] += found.counts["rows"]
                self.checked["late"] += found.counts["late"]
                self.violations += found.differing.total()
                self.said += [str(difference) for difference in found.differences]
                waiting = found.counts["waiting"] + found.counts["unscored"]
                self._blame("still waiting", {found.events.topic} if waiting else set())

    def _learner(self) -> None:
        core = LearnerCore(self._stream)
        for batch in read_all(self._settings, self._stream.topic("examples")):
            core.fold(batch)
        try:
            online = self._artifacts.read(ONLINE, core.learned)
        except Stop as error:
            self._blame(f"missing: {error}", {f"{ONLINE}@{core.learned}"})
            return
        here, there = (hashlib.sha256(model).hexdigest()[:16] for model in (core.artifact(), online))
        self.model = f"{ONLINE}@{core.learned} {there}"
        if here != there:
            self._blame(f"unlike an undisturbed fold ({here})", {self.model})

    def _blame(self, what: str, names: AbstractSet[str]) -> None:
        if names:
            self.violations += len(names)
            self.said.append(f"{len(names)} {what}: {', '.join(sorted(names)[:_EXAMPLE])}")
