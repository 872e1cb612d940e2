"""The versions beside the online model: loaded before they count, served to their keys, withdrawn when they fail."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.candidates import AGAIN_S, Candidates
from services.inference.mix import Scores
from services.runtime.errors import Refusal, Retry
from services.runtime.memory import ManualClock
from services.runtime.models import BATCH, Lineup, Moved, Registered, State, Weighed, chosen, decode_event
from tests.unit.test_scoring import STREAM

ROWS = [np.array([[0.25], [0.75]], np.float32)]
ONLINE = [np.array([0.1, 0.9])]


class Played:
    """A Triton of which each version answers what it is told to: numbers, an error, or nothing yet (None)."""

    def __init__(self) -> None:
        self.says: dict[int, float | Exception | None] = {}
        self.asked: list[tuple[int, int]] = []  # version, rows

    def ask(self, batches: Sequence[NDArray[np.float32]], version: int, contexts: object = ()) -> "Asked":
        del contexts
        self.asked.append((version, sum(map(len, batches))))
        return Asked(self, version, [len(batch) for batch in batches])


class Asked:
    """What was asked."""

    def __init__(self, triton: Played, version: int, sizes: list[int]) -> None:
        self._triton, self._version, self._sizes = triton, version, sizes

    @property
    def answered(self) -> bool:
        return self._triton.says[self._version] is not None

    def wait(self, seconds: float) -> bool:
        assert seconds == STREAM.pipeline.rollout.latency.seconds
        return self.answered

    def answers(self) -> list[Scores]:
        said = self._triton.says[self._version]
        if isinstance(said, Exception):
            raise said
        assert said is not None
        return [Scores(self._version, np.full(size, said)) for size in self._sizes]


class Bench:
    """Candidates over a line-up that the test writes."""

    def __init__(self) -> None:
        self.triton: Any = Played()
        self.lineup, self.clock = Lineup(STREAM.feature_set), ManualClock()
        self.candidates = Candidates(STREAM, self.triton, self.lineup, self.clock)

    def move(self, version: int, state: State, says: float | Exception | None = 0.5, share: float = 0.0) -> None:
        self.triton.says.setdefault(version, says)
        self.lineup.fold(Registered(BATCH, version, STREAM.feature_set, 1, 0.3, 0.5, "me"))
        self.lineup.fold(Moved(BATCH, version, state, "me", "try", share))

    def scores(self) -> dict[int, list[float]]:
        """Load what is to be loaded, score a batch of two rows, and return what each version said of them."""
        self.candidates.load()
        found = self.candidates.answers(self.candidates.ask(ROWS), ONLINE)
        return {version: values.tolist() for version, [values] in found.items()}

    def withdrawn(self) -> list[tuple[int, str, str]]:
        events = [decode_event(out.value) for out in self.candidates.withdrawn()]
        moves = [event for event in events if isinstance(event, Moved)]
        assert {move.actor for move in moves} <= {"inference"}
        return [(move.version, move.state, move.reason) for move in moves]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_those_that_are_to_be_scored_are(bench: Bench) -> None:
    """Shadow, canary and champion are asked with every batch; the others never are."""
    states: tuple[State, ...] = ("registered", "shadow", "canary", "champion", "retired")
    for version, state in enumerate(states):
        bench.move(version, state, says=version / 8)
    assert bench.scores() == {1: [0.125] * 2, 2: [0.25] * 2, 3: [0.375] * 2}
    assert {version for version, _ in bench.triton.asked} == {1, 2, 3}


def test_a_version_counts_when_it_is_loaded(bench: Bench) -> None:
    """It is loaded by being asked for no rows, once, while the others serve; only then is it asked for scores."""
    bench.move(1, "champion", says=0.5)
    assert list(bench.scores()) == [1]
    bench.move(2, "champion", says=None)
    for _ in range(3):
        assert list(bench.scores()) == [1]
    assert bench.triton.asked.count((2, 0)) == 1
    serving = bench.candidates.beside({1: np.zeros(2)}, ["a", "b"])
    assert serving[0].weights.tolist() == [0.5, 0.5], "its predecessor serves meanwhile"
    bench.triton.says[2] = 0.75
    assert bench.scores() == {1: [0.5] * 2, 2: [0.75] * 2}


def test_a_canary_has_its_keys(bench: Bench) -> None:
    """A key is served by the canary if it is among its share, by the champion if not, with the weight of each."""
    bench.move(1, "champion")
    bench.move(2, "canary", share=0.5)
    bench.lineup.fold(Weighed(BATCH, {1: 0.75, 2: 0.125}))
    keys = [f"key-{n}" for n in range(200)]
    champion, canary = bench.candidates.beside({1: np.zeros(200), 2: np.zeros(200)}, keys)
    assert (champion.state, champion.beside, canary.state, canary.beside) == ("champion", 0.75, "canary", 0.125)
    expected = [chosen(key, 2, 0.5) for key in keys]
    assert 60 < sum(expected) < 140
    assert canary.weights.tolist() == [0.125 if one else 0.0 for one in expected]
    assert champion.weights.tolist() == [0.0 if one else 0.75 for one in expected]


@pytest.mark.parametrize("says", [Refusal("no such version"), float("nan"), 1.5])
def test_what_fails_is_withdrawn_in_the_same_batch(bench: Bench, says: Any) -> None:
    """The batch is served without it, it is asked no more, and its predecessor comes back; it is written once."""
    bench.move(1, "champion", says=0.5)
    bench.move(2, "champion", says=0.5)
    assert bench.scores() == {1: [0.5] * 2, 2: [0.5] * 2}
    bench.triton.says[2] = says
    found = bench.scores()
    assert found[1] == [0.5] * 2
    assert np.isnan(found[2]).all()
    said = bench.withdrawn()
    assert [(version, state) for version, state, _ in said] == [(2, "retired"), (1, "champion")]
    assert bench.scores() == {1: [0.5] * 2}
    assert bench.withdrawn() == []
    bench.clock.time += AGAIN_S
    assert bench.withdrawn() == said, "what was not committed is written again"


def test_what_cannot_be_loaded_is_withdrawn(bench: Bench) -> None:
    """It never is asked for a row."""
    bench.move(3, "shadow", says=Refusal("not signed here"))
    assert bench.scores() == {}
    assert bench.withdrawn() == [(3, "retired", "it can't be loaded: not signed here")]
    assert bench.triton.asked == [(3, 0)]
    bench.lineup.fold(Moved(BATCH, 3, "retired", "inference", "it can't be loaded"))
    bench.clock.time += AGAIN_S
    assert (bench.scores(), bench.withdrawn()) == ({}, [])


def test_an_outage_of_triton_is_no_fault_of_a_version(bench: Bench) -> None:
    """While Triton is away nothing is withdrawn: it is loaded later, and a batch counts as late."""
    bench.move(1, "shadow", says=Retry("away"))
    assert bench.scores() == {}
    bench.triton.says[1] = 0.5
    assert bench.scores() == {1: [0.5] * 2}, "asked for again"
    bench.triton.says[1] = Retry("away")
    assert np.isnan(bench.scores()[1]).all()
    assert bench.withdrawn() == []


def test_who_answers_late_is_not_asked_twice_at_once(bench: Bench) -> None:
    """Rows go without its scores until the old answer is there; too often late, it has to go."""
    bench.move(1, "champion", says=0.5)
    bench.scores()
    bench.triton.says[1] = None
    asked = len(bench.triton.asked)
    for _ in range(3):
        assert np.isnan(bench.scores()[1]).all()
    assert len(bench.triton.asked) == asked + 1
    bench.triton.says[1] = 0.5
    assert bench.scores() == {1: [0.5] * 2}
    bench.triton.says[1] = None
    for _ in range(2):
        bench.scores()
    assert [(version, state) for version, state, _ in bench.withdrawn()] == [(1, "retired")]


def test_a_version_that_was_withdrawn_may_come_back(bench: Bench) -> None:
    """Promoted again by a person, it is loaded again and asked."""
    bench.move(1, "champion", says=0.5)
    bench.scores()
    bench.triton.says[1] = float("nan")
    bench.scores()
    bench.lineup.fold(Moved(BATCH, 1, "retired", "inference", "nan"))
    assert bench.scores() == {}
    bench.triton.says[1] = 0.25
    bench.lineup.fold(Moved(BATCH, 1, "champion", "me", "mended"))
    assert bench.scores() == {1: [0.25] * 2}
    assert bench.withdrawn() == []
