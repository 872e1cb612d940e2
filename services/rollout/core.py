"""From labelled examples to decisions on the versions of the batch model. Pure: who writes them is in `deciding.py`.

What `examples` say of now is what they say of the newest event of each partition: labels come in any order, and the
events of a partition were scored in theirs. Decisions are made at the end of a message, which nobody cuts.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from services.rollout.comparison import Comparison
from services.rollout.evidence import Array, log_losses
from services.rollout.judging import Decision, judge_challenger, judge_champion
from services.rollout.reading import Message, Newest, Reader, has_versions
from services.rollout.versions import Version, VersionState
from services.runtime.models import BATCH, EVEN, State
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream

FORMAT = 1  # of the state: one of another is folded again


class CoreState(msgspec.Struct):
    """What RolloutCore holds: `newest` by partition of `events`, and the versions that examples tell of."""

    examples: int
    reigns: int
    newest: dict[int, tuple[int, dict[int, State]]]
    versions: dict[int, VersionState]
    rate: float


class RolloutCore:
    """The fold of `examples`. `examples` counts those with a first label while there were versions to compare."""

    def __init__(self, stream: Stream) -> None:
        self._rule, self._frame, self._reader = stream.pipeline.rollout, examples_frame(stream), Reader(stream)
        self.examples = self._reigns = 0
        self._newest: dict[int, Newest] = {}
        self._versions: dict[int, Version] = {}
        self._rate = EVEN  # of labels that are 1, faded as the mix's losses are

    def fold(self, records: Sequence[Record]) -> list[Decision]:
        return [decision for record in records for decision in self._fold(self._frame.decode(record))]

    def weights(self) -> dict[int, float]:
        """Return the weight of each version in a mix of its own with the online model."""
        return {number: version.weight for number, version in sorted(self._versions.items())}

    def evidence(self) -> dict[int, tuple[int, float, float]]:
        """Return what there is on each version that is compared, as `Weighed` says it."""
        return {
            number: version.comparison.odds()
            for number, version in sorted(self._versions.items())
            if version.comparison is not None and not version.former
        }

    def _fold(self, batch: pa.RecordBatch) -> list[Decision]:
        if not (self._newest or has_versions(batch)):
            return []
        message = self._reader.read(batch)
        self._follow(message)
        rates = self._rates(message.labels)
        self.examples += len(message.labels)
        for number in sorted(message.said.keys() & self._versions.keys()):
            self._learn(self._versions[number], number, message, rates)
        self._forget()
        return list(self._decide())

    # Which versions there are

    def _follow(self, message: Message) -> None:
        """Take note of the states at events that are newer than any before of their partition."""
        for partition, newest in sorted(message.newest.items()):
            before = self._newest.get(partition, Newest(-1, {}))
            if newest.offset > before.offset:
                self._newest[partition] = newest
                for number in sorted(before.states.keys() - newest.states.keys()):
                    self._change(number, before.states[number], None)
                for number, state in sorted(newest.states.items()):
                    self._change(number, before.states.get(number), state)

    def _change(self, number: int, before: State | None, after: State | None) -> None:
        """Change a version's state, unless this partition comes only now to where others have been before."""
        version = self._versions.get(number)
        if before == after or before != (version.state if version else None):
            return
        if after is None:
            del self._versions[number]
            return
        if after == "champion" and (old := self._champion) is not None:
            self._versions[old].move("shadow")
        version = self._versions.setdefault(number, Version(self._rule))
        version.seen = self.examples
        version.move(after)
        if after == "champion":
            self._reigns += 1
            version.reigned = self._reigns

    def _forget(self) -> None:
        """Let go of the versions that no example has told of for long."""
        for number in [
            n for n, version in self._versions.items() if self.examples - version.seen > self._rule.patience
        ]:
            del self._versions[number]
            for newest in self._newest.values():
                newest.states.pop(number, None)  # so that it is new when it comes again

    @property
    def _champion(self) -> int | None:
        return next((number for number, version in self._versions.items() if version.state == "champion"), None)

    def _former(self) -> list[int]:
        """Return the versions that were champion before and are scored still, the newest reign first."""
        former = [number for number, version in self._versions.items() if version.state == "shadow" and version.reigned]
        return sorted(former, key=lambda number: -self._versions[number].reigned)

    def _rival(self, number: int) -> int | None:
        """Return whom a version is held against: the champion, or if it is that itself, the one before it."""
        champion = self._champion
        return next(iter(self._former()), None) if number == champion else champion

    # What they are worth

    def _rates(self, labels: Array) -> Array:
        """Return how frequent a label of 1 was before each of these, and count it."""
        rates = []
        for place, label in enumerate(labels.tolist(), self.examples + 2):
            rates.append(self._rate)
            self._rate += (label - self._rate) / min(place, self._rule.window)
        return np.array(rates, np.float64)

    def _learn(self, version: Version, number: int, message: Message, rates: Array) -> None:
        version.seen = self.examples
        said, labels = message.said[number], message.labels
        version.weigh(message.online, said.scores, labels)
        if version.former:
            return
        rival = self._rival(number)
        if version.comparison is None or version.comparison.rival != rival:
            version.comparison = Comparison(self._rule, rival)
        other = message.online if rival is None else _mixed(message, rival)
        both = ~(np.isnan(said.mixed) | np.isnan(other))
        differences = log_losses(other[both], labels[both]) - log_losses(said.mixed[both], labels[both])
        values = {
            field: [value for value, kept in zip(found, both.tolist(), strict=True) if kept]
            for field, found in message.values.items()
        }
        version.comparison.fold(differences, values, said.canary[both])
        alone = log_losses(rates[both], labels[both]) - log_losses(said.scores[both], labels[both])
        version.comparison.watch_over(differences, alone)

    # What follows

    def _decide(self) -> Iterator[Decision]:
        for number, version in sorted(self._versions.items()):
            comparison = version.comparison
            if comparison is None or version.former or version.waits(self.examples):
                continue
            for decision in self._decisions(number, version, comparison):
                self._versions[decision.version].decide(decision.state, self.examples)
                yield decision

    def _decisions(self, number: int, version: Version, comparison: Comparison) -> list[Decision]:
        if version.state != "champion":
            verdict = judge_challenger(self._rule, version.believed, comparison)
        else:
            verdict = judge_champion(self._rule, comparison, settled=version.settled)
        if verdict:
            return [Decision(number, version.believed, *verdict, comparison.evidence())]
        return self._settle(number, version, comparison) if version.state == "champion" else []

    def _settle(self, number: int, version: Version, comparison: Comparison) -> list[Decision]:
        """Let go of those before a champion that has reigned for long: then the online model is its only rival."""
        watched = comparison.watch.examples
        if version.settled or watched < self._rule.patience:
            return []
        version.settled = True
        reason = f"{BATCH}@{number} took its place, and has not turned worse within {watched:,} examples"
        return [Decision(old, "shadow", "retired", reason, comparison.evidence()) for old in self._former()]

    # Snapshots

    def snapshot(self) -> bytes:
        newest = {partition: (one.offset, one.states) for partition, one in sorted(self._newest.items())}
        versions = {number: version.state_of() for number, version in sorted(self._versions.items())}
        return msgspec.msgpack.encode(CoreState(self.examples, self._reigns, newest, versions, self._rate))

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=CoreState)
        self.examples, self._reigns, self._rate = held.examples, held.reigns, held.rate
        self._newest = {partition: Newest(*one) for partition, one in held.newest.items()}
        self._versions = {number: Version(self._rule) for number in held.versions}
        for number, version in self._versions.items():
            version.load(held.versions[number])


def _mixed(message: Message, version: int) -> Array:
    said = message.said.get(version)
    return np.full(len(message.labels), np.nan) if said is None else said.mixed
