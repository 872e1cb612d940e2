"""The inference stage when something is away: it says so with Retry and keeps nothing of it. Triton here is played."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from services.inference.mix import Scores
from services.inference.scoring import Scoring
from services.runtime.errors import Refusal, Retry
from services.runtime.frames import matrix, times
from services.runtime.grammar import Duration, LabelRule, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.memory import ManualClock
from services.runtime.models import Published
from services.runtime.records import Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream
from services.runtime.waiting import Wait

PIPELINE = Pipeline(
    StreamRule("binary", "key", "at", "id"),
    {"x": Value(of="x")},
    LabelRule("late", "at", Duration("1h")),
    OnlineRule(["linear_model.LogisticRegression"]),
)
STREAM = Stream("made", {"properties": {}}, {"properties": {}}, PIPELINE, ("x",), "made:0")
FRAME = features_frame(STREAM)


class PlayedTriton:
    """Answers each row with its own first number, or with a Retry as often as it is told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.away = 0
        self.refused: set[int] = set()

    def score(self, batches: Sequence[NDArray[np.float32]], version: int) -> list[Scores]:
        return self.ask(batches, version).answers()

    def ask(
        self, batches: Sequence[NDArray[np.float32]], version: int, contexts: Sequence[str | None] = ()
    ) -> "Answer":
        self.asked.append(version)
        self.contexts = contexts
        away = Retry("Triton is away") if self.away else None
        if version in self.refused:
            away = Refusal(f"online@{version} was not signed here")
        self.away -= bool(self.away)
        return Answer([Scores(version, batch[:, 0].astype(np.float64)) for batch in batches], away)


class Answer:
    """What was asked, answered at once."""

    def __init__(self, scores: list[Scores], error: Retry | None) -> None:
        self._scores, self._error = scores, error

    def answers(self) -> list[Scores]:
        if self._error is not None:
            raise self._error
        return self._scores


class Bench:
    """A stage, the Triton that it asks, and what is new on `models`."""

    def __init__(self) -> None:
        self.triton: Any = PlayedTriton()
        self.news: list[Record] = []
        self.stage = Scoring(STREAM, self.triton, self.triton, self._take)

    def _take(self) -> list[Record]:
        taken, self.news = self.news[:2], self.news[2:]
        return taken

    def publish(self, version: int, model: str = "online") -> None:
        value = msgspec.json.encode(Published(model, version, "made:0", version, None))
        self.news.append(Record("made.models", 0, version, model.encode(), value))

    def said(self, *partitions: int) -> list[tuple[str, int, float]]:
        """Fold a batch of each partition; return version, partition and prediction of each event."""
        out = self.stage.fold({partition: [features(partition)] for partition in partitions})
        said = [json.loads(o.value) for o in out if o.topic == "made.predictions"]
        return [(*one["scores"], one["source"]["partition"], one["prediction"]["late"]) for one in said]


def features(partition: int) -> Record:
    """Return a batch of two rows whose numbers tell their partition."""
    vectors = np.array([[partition + 0.25], [partition + 0.5]], np.float32)
    columns = [
        pa.array(["a", "b"]),
        pa.array(["k", "k"]),
        times(np.zeros(2, np.int64)),
        pa.array([4, 5]),
        matrix(vectors),
    ]
    return Record("made.features", partition, 0, None, FRAME.encode(columns), headers=FRAME.headers)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_without_a_version_it_waits(bench: Bench) -> None:
    """Before a first version is published Triton is not even asked, and the same batch is scored once there is one."""
    for _ in range(2):
        with pytest.raises(Retry, match="no version of the online model"):
            bench.said(0)
    assert bench.triton.asked == []
    bench.publish(3, model="batch")
    with pytest.raises(Retry, match="no version of the online model"):
        bench.said(0)
    bench.publish(0)
    assert bench.said(0) == [("online@0", 0, 0.25), ("online@0", 0, 0.5)]


def test_the_newest_version_scores(bench: Bench) -> None:
    """However many were published meanwhile, in however many pieces they are read: older artifacts may be gone."""
    for version in range(5):
        bench.publish(version)
    assert bench.said(0)[0] == ("online@4", 0, 0.25)
    assert bench.triton.asked == [4]


def test_a_version_that_is_refused_leaves_the_one_before(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The batch is scored by what last answered, once; the refused one is named, and a newer one is asked."""
    bench.publish(1)
    bench.said(0)
    bench.triton.refused = {2}
    bench.publish(2)
    with pytest.raises(Refusal):
        bench.said(0)
    assert [bench.said(0)[0][0] for _ in range(2)] == ["online@1"] * 2
    assert bench.triton.asked == [1, 2, 1, 1]
    assert "online@2 is not served, online@1 goes on: online@2 was not signed here" in caplog.text
    bench.publish(3)
    assert bench.said(0)[0][0] == "online@3"


def test_where_all_are_refused_the_newest_is_asked_again(bench: Bench) -> None:
    """Its file may have been put back, as the learner does when it starts."""
    bench.publish(1)
    bench.said(0)
    bench.publish(2)
    bench.triton.refused = {1, 2}
    for _ in range(5):
        with pytest.raises(Refusal):
            bench.said(0)
    assert bench.triton.asked == [1, 2, 1, 2, 2, 2]
    bench.triton.refused = set()
    assert bench.said(0)[0][0] == "online@2"


def test_an_error_of_triton_leaves_nothing_behind(bench: Bench) -> None:
    """The batch that failed is scored whole the next time, as if it had not been tried."""
    bench.publish(1)
    bench.triton.away = 2
    for _ in range(2):
        with pytest.raises(Retry, match="Triton is away"):
            bench.said(2, 0)
    fresh = Bench()
    fresh.publish(1)
    assert bench.said(2, 0) == fresh.said(2, 0) == [("online@1", p, p + x) for p in (2, 0) for x in (0.25, 0.5)]


def test_the_newest_version_is_live_even_if_it_came_with_a_failure(bench: Bench) -> None:
    """What was read from `models` before Triton failed is not forgotten, nor replaced by another model's version."""
    bench.publish(1)
    bench.publish(2)
    bench.publish(9, model="batch")
    bench.triton.away = 1
    with pytest.raises(Retry):
        bench.said(0)
    assert [version for version, _, _ in bench.said(0)] == ["online@2"] * 2
    bench.publish(1)
    assert [version for version, _, _ in bench.said(0)] == ["online@1"] * 2, "the log says what is live, not the number"
    assert bench.triton.asked == [2, 2, 1]


def test_it_keeps_no_state(bench: Bench) -> None:
    """There is nothing to snapshot, to open or to publish beside the fold."""
    bench.publish(1)
    bench.stage.open(0, None)
    bench.said(0)
    assert (bench.stage.stateful, bench.stage.snapshot(0), bench.stage.extra()) == (False, None, [])
    bench.stage.close(0)
    assert len(bench.said(0)) == 2


def test_warming_up_waits_for_both(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It asks for no rows until a version is there and Triton answers, and says what it waits for."""
    clock = ManualClock()
    wait = Wait(clock)
    waits: list[str | None] = []

    def sleep(seconds: float) -> None:
        clock.time += seconds
        waits.append(wait.why)
        if len(waits) == 6:
            bench.publish(4)
            bench.triton.away = 2

    clock.sleep = sleep  # type: ignore[method-assign]
    bench.stage.warm_up(wait)
    assert [str(why).partition(" ")[0] for why in waits] == ["no"] * 6 + ["Triton"] * 2
    assert bench.triton.asked == [4, 4, 4]
    assert wait.why is None
    assert ["no version" in m for m in caplog.messages] == [True, False]
