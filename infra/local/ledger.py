"""The independent ledger: reads what comes out of the log and compares it with what was sent, id by id.

Nothing here is taken from what a service says of itself.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from infra.local.quality import Quality, quality
from infra.local.replayer import Sent
from services.runtime.dead_letters import Replayed, decode_dead_letter
from services.runtime.errors import Retry
from services.runtime.frames import Frame
from services.runtime.kafka import Tail
from services.runtime.models import ONLINE
from services.runtime.schemas import examples_frame
from services.runtime.settings import Settings
from services.runtime.stream import Stream

BATCH = 5000


class Seen(msgspec.Struct):
    """What a consumer needs of a prediction."""

    event_id: str
    prediction: dict[str, float]
    scores: dict[str, float]
    weights: dict[str, float]


class Ledger:
    """Reads the output topics on a thread of its own from the moment it is made; `close` ends it.

    `everything`: from their beginning, for a log on which nothing else was sent.
    """

    def __init__(self, settings: Settings, stream: Stream, *, everything: bool = False) -> None:
        self._field = stream.pipeline.label.field
        self._horizon = stream.pipeline.label.horizon.seconds
        self._decode = msgspec.json.Decoder(Seen).decode
        self._examples_frame: Frame = examples_frame(stream)
        self._topics = {stream.topic(k): k for k in ("predictions", "examples", "late", "dead-letter")}
        self._tails = [Tail(settings, topic, from_beginning=everything) for topic in self._topics]
        self.arrived: dict[str, float] = {}  # id: when its first prediction came, monotonic seconds
        self.served: dict[str, float] = {}
        self.scores: dict[str, dict[str, float]] = {}  # "online" or "batch@N": id: score
        self.serving: dict[str, str] = {}  # id: the version of the batch model that served it beside the online one
        self.examples: Counter[str] = Counter()
        self.records: Counter[str] = Counter()  # topic kind: records, or rows where a record is a batch
        self._closing = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong on the ledger's thread: a ledger that stopped reading must not look like a loss."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._read()
        except Exception as error:  # noqa: BLE001 - carried to the thread that asks
            self._error = error
        for tail in self._tails:
            tail.close()

    def _read(self) -> None:
        for tail, kind in zip(self._tails, self._topics.values(), strict=True):
            try:
                found = tail.poll(BATCH, 0.02)
            except Retry:
                continue
            now = time.monotonic()
            for record in found:
                if kind == "predictions":
                    self._prediction(record.value, now)
                elif kind == "examples":
                    self.examples.update(self._examples_frame.decode(record).column("event_id").to_pylist())
                elif kind == "dead-letter" and isinstance(decode_dead_letter(record), Replayed):
                    continue
                self.records[kind] += 1

    def _prediction(self, value: bytes, now: float) -> None:
        seen = self._decode(value)
        name = seen.event_id
        if name in self.arrived:
            return
        self.served[name] = seen.prediction[self._field]
        for version, score in seen.scores.items():
            model = ONLINE if version.startswith(ONLINE) else version
            self.scores.setdefault(model, {})[name] = score
            if model != ONLINE and version in seen.weights:
                self.serving[name] = version
        self.arrived[name] = now

    def complete(self, sent: Sent) -> bool:
        """Whether every event has its prediction and every label its example."""
        return len(self.arrived) >= len(sent.events) and len(self.examples) >= len(sent.labels)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    # The report

    def counts(self, sent: Sent) -> dict[str, int]:
        predicted = sent.events.keys() & self.arrived.keys()
        unlabelled = [name for name in predicted if name not in self.examples]
        timed_out = sum(sent.times[name] + self._horizon < sent.newest_label for name in unlabelled)
        return {
            "events_sent": len(sent.events),
            "predictions": self.records["predictions"],
            "missing": len(sent.events) - len(predicted),
            "duplicates": self.records["predictions"] - len(self.arrived),
            "labels_sent": len(sent.labels),
            "examples": self.examples.total(),
            "waiting_for_label": len(unlabelled) - timed_out,
            "timed_out": timed_out,
            "late": self.records["late"],
            "dead_letters": self.records["dead-letter"],
        }

    def latencies_ms(self, sent: Sent) -> dict[str, float]:
        """Return how long events took from before they were sent until a consumer had their prediction."""
        values = [(self.arrived[name] - at) * 1e3 for name, at in sent.events.items() if name in self.arrived]
        if not values:
            return {}
        points = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
        return {name: round(float(np.percentile(values, point)), 1) for name, point in points.items()}

    def qualities(self, sent: Sent) -> dict[str, Quality]:
        """Score what was served, and who scored every event, on the same ones: those with a prediction and a label."""
        online = self.scores.get(ONLINE, {})
        models = {"served": self.served, ONLINE: online, "prior": sent.prior, "no_change": sent.no_change}
        return {model: _quality(scores, self._labelled(sent), sent) for model, scores in models.items()}

    def versions(self, sent: Sent) -> dict[str, Quality]:
        """Score each version of the batch model on the events that it scored, served or not: no two on the same."""
        versions = {model: scores for model, scores in self.scores.items() if model != ONLINE}
        return {version: _quality(scores, self._labelled(sent), sent) for version, scores in versions.items()}

    def _labelled(self, sent: Sent) -> list[str]:
        return [name for name in sent.labels if name in self.arrived]

    def mixes(self, sent: Sent) -> dict[str, dict[str, Quality]]:
        """Compare, for each version of the batch model that served, the mix with its parts on the events it served."""
        found: dict[str, dict[str, Quality]] = {}
        for version in sorted(set(self.serving.values())):
            names = [name for name in sent.labels if self.serving.get(name) == version]
            parts = {"served": self.served, ONLINE: self.scores[ONLINE], version: self.scores[version]}
            found[version] = {model: _quality(scores, names, sent) for model, scores in parts.items()}
        return found


def _quality(scores: Mapping[str, float], names: Sequence[str], sent: Sent) -> Quality:
    scored = [name for name in names if name in scores]
    return quality([scores[name] for name in scored], [sent.labels[name] for name in scored])
