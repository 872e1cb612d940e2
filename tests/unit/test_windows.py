"""What is learned from after a change: whichever window serves best what came last, on rows that none has seen."""

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from services.runtime.errors import Stop
from services.runtime.grammar import BatchRule
from services.runtime.onnx_session import open_session
from services.trainer import training, windows
from services.trainer.calibration import log_loss, straightened
from services.trainer.cards import Card
from services.trainer.checkpoints import Checkpoints
from services.trainer.rows import TrainingSet
from tests.lessons import COLUMNS, PIPELINE, STREAM
from tests.stored import HOUR

RULE = BatchRule(width=8, depth=1, epochs=20, patience=20, batch_size=64, learning_rate=0.01, dropout=0.0)
STREAM = msgspec.structs.replace(STREAM, pipeline=msgspec.structs.replace(PIPELINE, batch=RULE))
BEFORE, AFTER = 1200, 400
SINCE = BEFORE * HOUR


def examples(change: str, after: int = AFTER, seed: int = 1) -> TrainingSet:
    """Return hourly rows whose labels are known an hour later, and what is changed of the last of them."""
    rng = np.random.default_rng(seed)
    rows = BEFORE + after
    vectors = rng.standard_normal((rows, 3)).astype(np.float32)
    odds = 3 * vectors[:, 0]
    new = np.arange(rows) >= BEFORE
    if change == "turned":
        odds[new] *= -1
    if change == "other":
        odds[new] = 3 * vectors[new, 1]
    labels = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    times = np.arange(rows) * HOUR
    codes = np.zeros(rows, np.int64)
    return TrainingSet(7, COLUMNS, vectors, labels, times, times + HOUR, ("k",), codes)


def kept(data: Path) -> Checkpoints:
    return Checkpoints(data, "made")


def train(given: TrainingSet, folder: Path, since: int = SINCE) -> tuple[bytes, Card]:
    return windows.run(STREAM, given, since, kept(folder), "cpu", lambda _epoch, _of: None)


@pytest.mark.parametrize(("change", "best"), [("turned", "before"), ("other", "after"), ("none", "all")])
def test_the_window_that_serves_best_is_taken(change: str, best: str, tmp_path: Path) -> None:
    """Old knowledge turned round where labels are; none of it where another feature tells; all where nothing is new."""
    _, card = train(examples(change), tmp_path)
    assert set(card.windows) >= {"all", "after"}
    if best == "all":
        assert card.windows[card.window] <= card.windows["after"]
        assert card.window != "after"
    else:
        assert card.window == best
    assert card.windows[card.window] == min(card.windows.values())
    assert (card.since, card.table_version, card.newest) == (SINCE, 7, (BEFORE + AFTER - 1) * HOUR)
    assert card.rows == (AFTER if card.window == "after" else BEFORE + AFTER)
    assert card.loss < 0.5 < card.prior_loss


def test_what_is_turned_round_is_known_again(tmp_path: Path) -> None:
    """The graph itself says so, on rows of the new world that come later."""
    graph, card = train(examples("turned"), tmp_path)
    assert card.temperature < 0
    later = examples("turned", seed=2).only(slice(BEFORE, None))
    [scores] = open_session(graph).run(["SCORE"], {"FEATURES": later.features})
    said = np.clip(np.ravel(scores).astype(float), 1e-6, 1 - 1e-6)
    assert log_loss(np.log(said / (1 - said)), later.labels.astype(float)) < 0.42


def test_with_too_few_after_the_change_it_is_all(tmp_path: Path) -> None:
    """And nothing is held out; nor where a change is later than all that is known."""
    for after, since in ((windows.FEWEST - 1, SINCE), (AFTER, 10 * SINCE)):
        graph, card = train(examples("turned", after), tmp_path, since)
        assert (card.window, card.windows, card.rows) == ("all", {}, BEFORE + after)
        kept(tmp_path).discard()
        assert graph == training.run(STREAM, examples("turned", after), kept(tmp_path), "cpu", lambda _e, _o: None)[0]
        kept(tmp_path).discard()


def test_nobody_sees_what_it_is_judged_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows are judged on the newest quarter; of the rest a row counts if its label was known by then."""
    given = examples("turned")
    late = given.event_times + np.where(np.arange(len(given)) % 2, 1, 250) * HOUR
    given = dataclasses.replace(given, label_times=late)
    seen: list[TrainingSet] = []
    whole = training.fit

    def fit(stream: object, rows: TrainingSet, *more: object) -> object:
        seen.append(rows)
        return whole(stream, rows, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "fit", fit)
    train(given, tmp_path)
    judge = given.event_times[len(given) - AFTER // 4]
    assert len(seen) >= 3
    for rows in seen[:3]:
        assert rows.event_times.max() < judge
        assert rows.label_times.max() <= judge
    assert seen[0].event_times.min() >= SINCE > seen[1].event_times.max()
    assert len(seen[2]) == len(seen[0]) + len(seen[1])


def test_a_window_that_teaches_nothing_is_left_out(tmp_path: Path) -> None:
    """One class alone after the change: its own network can't be fitted, others can."""
    given = examples("none")
    labels = given.labels.copy()
    labels[BEFORE:] = 0
    _, card = train(dataclasses.replace(given, labels=labels), tmp_path)
    assert "after" not in card.windows
    assert card.window in ("before", "all")


def test_an_interruption_costs_no_other_version(tmp_path: Path) -> None:
    """Killed after any epoch, it goes on and comes to the same graph, bit for bit."""
    given = examples("other")
    expected = train(given, tmp_path / "whole")[0]
    for kill in (3, 30, 65):
        count = 0

        def ended(_epoch: object, _of: int, last: int = kill) -> None:
            nonlocal count
            count += 1
            if count == last:
                raise KeyboardInterrupt

        folder = tmp_path / str(kill)
        with pytest.raises(KeyboardInterrupt):
            windows.run(STREAM, given, SINCE, kept(folder), "cpu", ended)
        assert train(given, folder)[0] == expected


def test_examples_of_one_class_are_no_reason_to_go_on(tmp_path: Path) -> None:
    """Then no window can be learned from, and Stop says so."""
    given = examples("none")
    with pytest.raises(Stop, match="made can't be trained on yet"):
        train(dataclasses.replace(given, labels=np.zeros_like(given.labels)), tmp_path)


def test_slope_and_offset_are_found() -> None:
    """Of logits that are twice as sure as they should be and the wrong way round; one class alone keeps them finite."""
    rng = np.random.default_rng(3)
    true = rng.normal(0, 2, 20_000)
    labels = (rng.random(len(true)) < 1 / (1 + np.exp(-true))).astype(float)
    assert straightened(-2 * true + 1, labels) == pytest.approx((-0.5, 0.5), abs=0.03)
    slope, offset = straightened(true[:500], np.zeros(500))
    assert np.isfinite([slope, offset]).all()
    assert offset < -2
