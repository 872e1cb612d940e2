"""A log of electricity's half-hours with the alerts, versions and commands that a change like the real one brings.

The three fields of Victoria are constant before row `JOINED`, as in the data. What models said is made up: the online
model loses more from there on and comes back slowly, `batch@1` does not, `batch@2` was trained for it.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.runtime.alerts import Alert, Explained, Histogram, Place
from services.runtime.commands import Hold, Silence
from services.runtime.frames import matrix, times
from services.runtime.memory import MemoryHistory, MemoryLog
from services.runtime.models import BATCH, Moved, Published, Registered
from services.runtime.records import Position, Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame, scored_frame
from services.runtime.stream import Stream, load_stream

ROOT = Path(__file__).parents[1]
STREAM = load_stream(ROOT / "schemas", "electricity")
FIRST = 831_427_200_000_000  # 1996-05-07
HALF_HOUR = 1_800_000_000
ROWS, JOINED, TRAINED, CALM = 45_312, 17_424, 18_600, 24_000
WALL = 1_795_000_000_000  # ms; 500 half-hours were played in a second
STEP = 512
FEATURES = "features:stream:0-17424"
LOSS = "loss:online:0-17480"
MISSING = "missing:nsw_demand:0-6000"


def wall(row: int) -> int:
    """Return when a row was played, in the broker's milliseconds."""
    return WALL + 2 * row


def at(row: int) -> int:
    return FIRST + row * HALF_HOUR


def place(row: int) -> Place:
    return Place(at(row), "electricity.scored", 0, row)


class Log:
    """The log, in memory. Labels are known half an hour later, but for some weeks of few labels."""

    def __init__(self, rows: int = ROWS, stream: Stream = STREAM) -> None:
        self.stream, self.log = stream, MemoryLog(partitions=1)
        rng = np.random.default_rng(6)
        for start in range(0, rows, STEP):
            self._play(np.arange(start, min(start + STEP, rows)), rng)
        self.say("models", *models(stream.feature_set))
        self.say("alerts", *((wall(row), alert) for row, alert in alerts(rng)))
        self.say("commands", *commands())

    def say(self, kind: str, *events: tuple[int, Any]) -> None:
        for timestamp, event in events:
            self.add(kind, msgspec.json.encode(event), timestamp)

    def add(self, kind: str, value: bytes, timestamp: int, headers: Any = None) -> None:
        topic = self.stream.topic(kind)
        records = self.log.topics[Position(topic, 0)]
        records.append(Record(topic, 0, len(records), None, value, timestamp, headers))

    @property
    def history(self) -> MemoryHistory:
        return MemoryHistory(self.log)

    def _play(self, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
        columns = scored(rows, rng, len(self.stream.columns))
        frame = scored_frame(self.stream)
        self.add("scored", frame.encode(columns), wall(int(rows[-1])), frame.headers)
        known = pa.array(has_label(rows))
        labels = pa.array((rng.random(len(rows)) < 0.42).astype(np.float64))
        more = [
            pa.array(np.zeros(len(rows), np.int32)),
            labels,
            times(FIRST + (rows + 1) * HALF_HOUR),
            pa.array(["label"] * len(rows)),
            pa.nulls(len(rows), pa.float64()),
        ]
        columns = _answered(columns, np.asarray(labels), rows, rng)
        frame = examples_frame(self.stream)
        values = [column.filter(known) for column in [*columns, *more]]
        self.add("examples", frame.encode(values), wall(int(rows[-1])), frame.headers)


def has_label(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray((rows % 10_000 < 9_000) | (rows % 3 == 0))


def scored(rows: NDArray[np.int64], rng: np.random.Generator, width: int) -> list[pa.Array]:
    return [
        pa.array([f"half-hour-{row:05}" for row in rows.tolist()]),
        pa.array(["NSW"] * len(rows)),
        times(FIRST + rows * HALF_HOUR),
        pa.array(rows),
        matrix(rng.random((len(rows), width)).astype(np.float32)),
        pa.array(rng.random(len(rows))),
        pa.array([None] * len(rows), SCORE),
        pa.array([[]] * len(rows), BESIDE),
    ]


def _answered(
    columns: list[pa.Array], labels: NDArray[np.float64], rows: NDArray[np.int64], rng: np.random.Generator
) -> list[pa.Array]:
    """Return the columns with answers whose log loss is about what `worth` says."""
    said = {name: _scores(name, labels, rows, rng) for name in (0, 1, 2)}
    entries: list[list[dict[str, Any]]] = []
    for row, first, second in zip(rows.tolist(), said[1], said[2], strict=True):
        there = [(1, first)] * (6_000 <= row < 21_000) + [(2, second)] * (row >= TRAINED)
        entries.append(
            [{"version": v, "score": s, "weight": 0.5, "state": "champion", "beside": 0.5} for v, s in there]
        )
    batch = np.where(rows >= TRAINED, said[2], np.where(rows >= 6_000, said[1], said[0]))
    online = pa.array([{"version": 1, "score": score, "weight": 0.5} for score in said[0]], SCORE)
    return [*columns[:5], pa.array((said[0] + batch) / 2), online, pa.array(entries, BESIDE)]


def worth(model: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log-odds by which a model (0: the online one) is on the side of the label, on average."""
    since = np.maximum(rows - JOINED, 0)
    if model == 0:
        return 1.3 - np.minimum(rows, 2_000) / 10_000 - 0.9 * np.where(since > 0, np.exp(-since / 3_000), 0)
    return np.where(rows >= JOINED, 0.25, 1.5) if model == 1 else np.full(len(rows), 1.45)


def _scores(
    model: int, labels: NDArray[np.float64], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    odds = worth(model, rows) * (2 * labels - 1) + rng.normal(0, 1.4, len(rows))
    return np.asarray(1 / (1 + np.exp(-odds)))


def models(feature_set: str) -> list[tuple[int, Any]]:
    trained = f"alert {LOSS}: examples since 1997-05-08"
    return [
        (wall(500), Published("online", 500, feature_set, 500, 0.5)),
        (wall(5_600), Registered(BATCH, 1, feature_set, 5_500, 0.51, 0.68, "trainer")),
        (wall(5_800), Moved(BATCH, 1, "shadow", "rollout", "it is scored beside the others")),
        (wall(6_900), Moved(BATCH, 1, "champion", "rollout", "better than online", evidence={"mean": 0.03})),
        (wall(18_400), Registered(BATCH, 2, feature_set, 1_150, 0.49, 0.68, f"trainer, {trained}")),
        (wall(18_600), Moved(BATCH, 2, "canary", "rollout", "so far so good", 0.1, {"mean": 0.06})),
        (wall(19_900), Moved(BATCH, 2, "champion", "rollout", "shown to be better", evidence={"mean": 0.11})),
        (wall(21_000), Moved(BATCH, 1, "retired", "rollout", "worse than online")),
        (wall(45_000), Published("online", 45_000, feature_set, 45_000, 0.5)),
    ]


def commands() -> list[tuple[int, Any]]:
    until = (WALL + 7_200_000) * 1000
    return [
        (wall(20_000), Silence("nsw_*", until, "ann@desk", "meters <are> being changed")),
        (wall(20_000), Hold(held=True, actor="ann@desk", reason="release week")),
        (wall(21_000), Hold(held=False, actor="ann@desk", reason="over")),
    ]


def explained(
    name: str, value: float, before: Any, after: Any, edges: Any, missing: tuple[int, int] = (0, 0)
) -> Explained:
    made = [
        Histogram(np.histogram(found, [-np.inf, *edges, np.inf])[0].tolist(), list(edges), missing=lost)
        for found, lost in zip((before, after), missing, strict=True)
    ]
    return Explained(name, "psi", value, *made)


def victoria(rng: np.random.Generator) -> list[Explained]:
    """Each constant before, alive after, on the scales of the data."""
    price, demand, transfer = rng.gamma(4, 0.0009, 600), rng.normal(0.42, 0.12, 600), rng.normal(0.5, 0.17, 600)
    spread = np.round(np.linspace(0.0005, 0.0085, 17), 5).tolist()
    fifths = np.round(np.linspace(0.1, 0.9, 17), 3).tolist()
    return [
        explained("vic_price", 8.12, np.full(4_000, 0.003467), price, spread),
        explained("vic_demand", 7.44, np.full(4_000, 0.422915), demand, fifths),
        explained("transfer", 6.97, np.full(4_000, 0.414912), transfer, fifths),
    ]


def alerts(rng: np.random.Generator) -> list[tuple[int, Alert]]:
    found = Alert(
        FEATURES, 0, "raised", "features", "stream", "warning", place(JOINED), place(17_536), "psi", 3.1,
        "vic_price, vic_demand and transfer are not distributed as before", features=victoria(rng),
        retrain_from=at(JOINED),
    )  # fmt: skip
    grown = msgspec.structs.replace(
        found, number=1, event="updated", at=place(17_920), strength=8.12, severity="critical"
    )
    demand = rng.normal(0.43, 0.16, 3_000)
    tenths = np.round(np.linspace(0.1, 0.8, 15), 2).tolist()
    missing = Alert(
        MISSING, 0, "raised", "missing", "nsw_demand", "warning", place(6_000), place(6_144), "share", 0.31,
        "nsw_demand is missing in 31 % of the events, 0 % before",
        features=[explained("nsw_demand", 1.9, demand, demand[:350], tenths, (0, 157))],
        done=["silenced by ann@desk: meters <are> being changed"], silenced=True,
    )  # fmt: skip
    over = msgspec.structs.replace(
        missing, number=1, event="resolved", at=place(7_300), reason="nsw_demand is there again"
    )
    lost = Alert(
        LOSS, 0, "raised", "loss", "online", "critical", place(17_480), place(17_664), "e-value", 2_400.0,
        "the online model loses 0.19 nats an event more than before",
        slices=[Explained(*one) for one in (("weekday=6", "lost", 0.27), ("weekday=5", "lost", 0.24))],
        lost=0.19, retrain_from=at(17_480),
    )  # fmt: skip
    done = [
        "batch@2 is asked for: examples since 1997-05-08",
        "batch@2 is champion: served log loss is back within 5 %",
    ]
    better = msgspec.structs.replace(lost, number=1, event="updated", at=place(18_400), strength=9_100.0, done=done[:1])
    resolved = msgspec.structs.replace(
        better, number=2, event="resolved", at=place(CALM), reason="back to normal", done=done
    )
    return [
        (6_144, missing), (7_300, over), (17_536, found), (17_664, lost), (17_920, grown), (18_400, better),
        (CALM, resolved),
    ]  # fmt: skip
