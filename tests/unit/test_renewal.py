"""A model that learns on is begun anew where the world has turned, and nowhere else; a restart leaves no trace."""

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from services.learner import renewal
from services.learner.core import LearnerCore
from services.learner.model import build_model
from services.learner.renewal import Renewal
from services.runtime.frames import matrix, times
from services.runtime.grammar import OnlineRule
from services.runtime.records import Record
from services.runtime.schemas import BESIDE, SCORE
from tests.lessons import FRAME, STREAM

GRADUAL = ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]
BEFORE, AFTER = 4000, 3000
Vectors = NDArray[np.float32]


def drawn(turn: float, seed: int = 1, before: int = BEFORE) -> tuple[Vectors, list[bool]]:
    """Return examples of which the last 3,000 are told by other odds: as many times as before."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((before + AFTER, 3)).astype(np.float32)
    odds = vectors @ np.array([4.0, -3.0, 1.0])
    odds[before:] *= turn
    return vectors, (rng.random(len(odds)) < 1 / (1 + np.exp(-odds))).tolist()


def records(vectors: Vectors, labels: Sequence[bool], size: int = 100) -> Iterator[Record]:
    for number, start in enumerate(range(0, len(labels), size)):
        some, said = vectors[start : start + size], labels[start : start + size]
        n, epoch = len(said), times(np.zeros(len(said), np.int64))
        columns = [
            pa.array([f"e{start + place}" for place in range(n)]),
            *(pa.array(["k"] * n), epoch, pa.array(range(n), pa.int64()), matrix(some), pa.array([0.5] * n)),
            pa.array([{"version": 0, "score": 0.5, "weight": 1.0}] * n, SCORE),
            *(pa.array([[]] * n, BESIDE), pa.array([0] * n, pa.int32()), pa.array(list(map(float, said)))),
            *(epoch, pa.array(["label"] * n), pa.array([None] * n, pa.float64())),
        ]
        yield Record("made.examples", 0, number, None, FRAME.encode(columns), headers=FRAME.headers)


def learner(*, renew: bool = True) -> LearnerCore:
    rule = msgspec.structs.replace(STREAM.pipeline, online=OnlineRule(GRADUAL, renew=renew))
    return LearnerCore(msgspec.structs.replace(STREAM, pipeline=rule))


def lost(core: LearnerCore, given: Sequence[Record]) -> float:
    """Return the mean loss of these records, each predicted before it is learned."""
    before, count = (core.log_loss or 0.0) * core.learned, core.learned
    core.fold(given)
    return ((core.log_loss or 0.0) * core.learned - before) / (core.learned - count)


def test_a_world_that_turns_is_learned_anew() -> None:
    """Labels turned round: with a new model the loss is soon what it was, with the old one not for long."""
    log = list(records(*drawn(-1.0)))
    anew, old = learner(), learner(renew=False)
    usual = [lost(core, log[20:40]) for core in (anew, old) if not core.fold(log[:20])]
    assert usual[0] == usual[1]
    assert min(lost(core, log[40:43]) for core in (anew, old)) > 3 * usual[0]
    then = [lost(core, log[46:60]) for core in (anew, old)]
    assert (anew.renewed >= 1, old.renewed) == (True, 0)
    assert then[0] < 1.15 * usual[0] < 1.5 * usual[0] < then[1]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_begun_anew_for_nothing(seed: int) -> None:
    """Where nothing changes; nor are examples kept there that are of no use."""
    core = learner()
    core.fold(list(records(*drawn(1.0, seed))))
    assert core.renewed == 0
    assert len(core._renewal._since) < 300


def test_a_new_model_has_to_be_better() -> None:
    """Labels that nothing tells: the old one errs, yet a new one is taken only if it lost less on the newest."""
    rows, usual = 1000, math.log(2)
    for better in (False, True):
        held = Renewal(lambda: build_model(["linear_model.LogisticRegression"]))
        rng = np.random.default_rng(4)
        old = object()
        now: object = old
        for row in range(rows + renewal.FEWEST):
            lately = row >= rows
            loss = 0.1 if not lately else (3.0 if better or row < rows + 150 else 0.5 * usual)
            now = held.after(now, {"x": float(rng.standard_normal())}, bool(rng.random() < 0.5), loss)
        assert (held.count, now is not old) == (int(better), better)


@pytest.mark.parametrize(("loss", "anew"), [(0.6, False), (0.9, False), (1.2, True), (3.0, True)])
def test_a_storm_is_no_turn(loss: float, anew: bool) -> None:  # noqa: FBT001 - what is expected
    """A model that still knows about as much as the share of positives tells (0.69 nats) stays, be a new one better."""
    held = Renewal(lambda: build_model(GRADUAL))
    rng = np.random.default_rng(4)
    now = old = object()
    for row in range(1000 + renewal.FEWEST):
        x = float(rng.standard_normal())
        now = held.after(now, {"x": x}, x > 0, 0.1 if row < 1000 else loss)
    assert held._try_at == 2 * renewal.FEWEST
    assert (held.count, now is not old) == (int(anew), anew)


def test_a_turn_stays_one() -> None:
    """A new model that has come to know something makes place for a better one of the same world all the same."""
    held = Renewal(lambda: build_model(GRADUAL))
    rng = np.random.default_rng(4)
    for row in range(1000 + 4 * renewal.FEWEST):
        x = float(rng.standard_normal())
        held.after(object(), {"x": x}, x > 0, 0.1 if row < 1000 else 3.0 if row < 1000 + renewal.FEWEST else 0.3)
    assert held.count == 3


def lasting(loss: float, rows: int) -> Renewal:
    """Return what has seen a long time of 0.1 nats an example, then so much for so long."""
    held, model = Renewal(lambda: build_model(["linear_model.LogisticRegression"])), object()
    for row in range(6000 + rows):
        model = held.after(model, {"x": 1.0}, row % 2 == 0, 0.1 if row < 6000 else loss)
        assert len(held._since) <= renewal.MOST
    return held


@pytest.mark.parametrize("loss", [0.33, 0.34, 0.345, 0.35, 0.36, 0.6, 3.0])
def test_memory_is_bounded(loss: float) -> None:
    """However long it loses more than is usual, a little or a lot."""
    lasting(loss, 5000)


def test_a_storm_is_no_alarm() -> None:
    """A model may lose 0.2 nats an example more than is usual for as long as it likes, more than that not for long."""
    assert not any(lasting(0.29, rows)._alarmed for rows in (240, 700))
    assert lasting(0.6, 120)._alarmed


@pytest.mark.parametrize("kill", [30, 40, 41, 42, 43, 45, 50, 55, 59])
def test_a_restart_leaves_no_trace(kill: int) -> None:
    """At any time of a turn: the same artifact, state and loss, bit for bit."""
    log = list(records(*drawn(-1.0)))[:62]
    whole, first, second = learner(), learner(), learner()
    whole.fold(log)
    first.fold(log[:kill])
    second.restore(first.snapshot())
    assert second.snapshot() == first.snapshot()
    second.fold(log[kill:])
    assert (second.artifact(), second.snapshot()) == (whole.artifact(), whole.snapshot())
    assert second.renewed == whole.renewed >= 1


def test_cuts_leave_no_trace() -> None:
    """Records of one example, of 7, of a thousand."""
    vectors, labels = drawn(-1.0)
    found = set()
    for size in (7, 100, 1000):
        core = learner()
        core.fold(list(records(vectors[:5500], labels[:5500], size)))
        found.add(core.snapshot())
    assert len(found) == 1
