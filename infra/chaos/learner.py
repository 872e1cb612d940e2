"""The learner killed again and again while it learns: it must end as one that was never killed, bit for bit.

Its state is compared whole: the SHA-256 of the canonical pickle of the model, how many examples it has learned and its
loss, as it stands in the last snapshot, and of the pickle of the last version published. Pickling the same objects
gives the same bytes once what they share by chance is parted, which `LearnerCore` does.
"""

import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Producer

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Child, Children
from infra.local.replayer import Timed, records
from infra.local.stack import REPOSITORY
from services.features.core import FeaturesCore
from services.inference.core import InferenceCore
from services.inference.mix import Mix, Scores
from services.labels.core import LabelsCore
from services.learner.core import LearnerCore
from services.learner.model import fingerprint
from services.runtime.artifacts import Artifacts
from services.runtime.clients import client
from services.runtime.errors import Stop
from services.runtime.frames import rows
from services.runtime.history import read_all
from services.runtime.models import ONLINE
from services.runtime.records import Outgoing, Record
from services.runtime.river_score import score
from services.runtime.schemas import examples_frame
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.snapshots import Snapshots
from services.runtime.stream import Stream, load_stream
from services.runtime.unpickling import load

SCHEMAS = REPOSITORY / "schemas"
SLICE = 20  # events whose examples are sent together
LONGEST_S = 4.0  # from a start to a kill: it may hit the start, the restoring, the learning or the publishing
PATIENCE_S = 60.0
SCORED = 1000


class Outcome(msgspec.Struct, frozen=True):
    """What both came to: digests of the state and of the last version, and whether all scores are the same bits."""

    kills: int
    examples: int
    killed: tuple[str, str]
    undisturbed: tuple[str, str]
    scores: int
    same_scores: bool

    @property
    def same(self) -> bool:
        return self.same_scores and self.killed == self.undisturbed


def run(folder: Path, events: int, kills: int, seed: int, tell: Callable[[str], None]) -> Outcome:
    """Start a broker of Apache Kafka and a learner; feed, kill, and compare. Everything is stopped again."""
    stream = load_stream(SCHEMAS, "flights")
    with Children(folder / "logs") as children:
        broker = brokers.start("kafka", children, folder)
        brokers.wait_ready(broker, children)
        brokers.create_topics(broker, {stream.topic(kind): TopicSpec() for kind in ("examples", "models")})
        settings = Settings(stream=stream.name, broker=broker.address, data=folder / "data")
        make_keys(settings.data / "keys")
        learner = children.start("learner", [sys.executable, "-m", "services.learner"], env=_environment(settings))
        feed = _Feed(broker, list(examples(stream, events)), kills)
        _disturb(learner, feed, kills, random.Random(seed), tell)  # noqa: S311 - chaos, not secrets
        return _compare(stream, settings, learner, kills)


def examples(stream: Stream, events: int) -> Iterator[Outgoing]:
    """Yield the examples that real flights and their labels give, through the pure cores, on one partition."""
    features, inference, labels = FeaturesCore(stream, 0), InferenceCore(stream), LabelsCore(stream, 0)
    timed, offsets = records(SCHEMAS, stream.name, events), count()
    while due := list(islice(timed, SLICE)):
        sent, told = (_read(stream, kind, due, offsets) for kind in ("event", "label"))
        batches = [out for out in features.fold(sent) if out.topic == stream.topic("features")]
        scored = [_scored(inference, out) for out in batches]
        yield from (out for out in labels.fold([*scored, *told]) if out.topic == stream.topic("examples"))


def _read(stream: Stream, kind: str, due: Sequence[Timed], offsets: Iterator[int]) -> list[Record]:
    topic, found = stream.topic(f"{kind}s"), [record for _, of, record in due if of == kind]
    return [
        Record(topic, 0, next(offsets), record[stream.key].encode(), msgspec.json.encode(record)) for record in found
    ]


def _scored(inference: InferenceCore, out: Outgoing) -> Record:
    """Return what inference would write for labels; the score is not learned from."""
    batch = inference.read([Record(out.topic, 0, 0, out.key, out.value, 0, out.headers)])
    *_, scored = inference.write(0, batch, Mix(Scores(0, np.zeros(batch.num_rows))))
    return Record(scored.topic, 0, 0, scored.key, scored.value, 0, scored.headers)


def _environment(settings: Settings) -> dict[str, str]:
    ours = {"STREAM": settings.stream, "BROKER": settings.broker, "DATA": str(settings.data), "SNAPSHOT_EVERY_S": "0.5"}
    return os.environ | {f"THALWEG_{name}": value for name, value in ours.items()}


class _Feed:
    """Puts the examples on the log a share at a time, so that there is something to learn after every start."""

    def __init__(self, broker: Broker, sent: Sequence[Outgoing], shares: int) -> None:
        self._producer = Producer(client(broker.settings, log_level=0, **{"enable.idempotence": True}))
        self._left, self._share = list(sent), -(-len(sent) // shares)

    def send(self) -> None:
        due, self._left = self._left[: self._share], self._left[self._share :]
        for out in due:
            self._producer.produce(out.topic, out.value, partition=0, headers=out.headers)
        if self._producer.flush(PATIENCE_S):
            raise Stop("the broker did not take the examples")


def _disturb(learner: Child, feed: _Feed, kills: int, chosen: random.Random, tell: Callable[[str], None]) -> None:
    for kill in range(kills):
        feed.send()
        wait = chosen.uniform(0, LONGEST_S)
        time.sleep(wait)
        learner.kill()
        tell(f"kill {kill + 1} of {kills}, {wait:.1f} s after a start")
        learner.restart()


def _compare(stream: Stream, settings: Settings, learner: Child, kills: int) -> Outcome:
    core, vectors = LearnerCore(stream), list[dict[str, float]]()
    for batch in read_all(settings, stream.topic("examples")):
        core.fold(batch)
        vectors += [vector for record in batch for vector in _vectors(stream, record)]
    artifact = _last_version(Artifacts(settings.data, stream.name), core.learned)
    learner.stop()
    snapshots = Snapshots(settings.data, stream.name, "learner", fingerprint(stream))
    snapshot = snapshots.newest(0, {stream.topic("examples"): 2**62})
    if snapshot is None:
        raise Stop(f"the learner left no snapshot: {snapshots.take_refused()}")
    model, undisturbed = load(artifact), load(core.artifact())
    same = all(score(model, vector) == score(undisturbed, vector) for vector in vectors[-SCORED:])
    killed, expected = (snapshot.state, artifact), (core.snapshot(), core.artifact())
    scores = min(len(vectors), SCORED)
    return Outcome(kills, core.learned, _digests(*killed), _digests(*expected), scores, same)


def _vectors(stream: Stream, record: Record) -> Iterator[dict[str, float]]:
    batch = examples_frame(stream).decode(record)
    return (dict(zip(stream.columns, row, strict=True)) for row in rows(batch.column("features")).tolist())


def _digests(state: bytes, version: bytes) -> tuple[str, str]:
    return hashlib.sha256(state).hexdigest()[:16], hashlib.sha256(version).hexdigest()[:16]


def _last_version(artifacts: Artifacts, version: int) -> bytes:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return artifacts.read(ONLINE, version)
        except Stop:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
