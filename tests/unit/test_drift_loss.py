"""What examples tell: who loses more, where, since when; whose probabilities no longer hold; which labels fail."""

import msgspec
import numpy as np
import pytest

from services.drift.example_summaries import ExampleReducer
from services.drift.losses import clipped_losses, expected_loss
from services.drift.quality import Quality
from services.drift.signals import Signal
from services.runtime.summaries import ExampleSummary
from tests.judged import SECOND, START, STREAM, Examples, drawn

CHANGE, COUNT, MESSAGE = 8000, 14_000, 700


def plain(seed: int, count: int = COUNT) -> Examples:
    """Return examples that all have a label, and that nothing happens to."""
    return drawn(seed, count)._replace(outcomes=["label"] * count)


def summaries(examples: Examples) -> list[ExampleSummary]:

    reducer, found = ExampleReducer(STREAM, 0), []
    for number, first in enumerate(range(0, len(examples.labels), MESSAGE)):
        found += reducer.fold(examples.record(slice(first, min(first + MESSAGE, len(examples.labels))), number))
    return [msgspec.msgpack.decode(one, type=ExampleSummary) for one in found]


def said(examples: Examples) -> list[Signal]:
    quality = Quality(STREAM, 1.0)
    return [signal for summary in summaries(examples) for signal in quality.fold(summary)]


def first(signals: list[Signal], kind: str, subject: str) -> Signal:
    return next(one for one in signals if one.on and (one.kind, one.subject) == (kind, subject))


def seen_at(signal: Signal) -> int:
    """Return behind how many examples it was said, by its event time."""
    return (signal.at.time - START) // SECOND + 1


def test_nothing_is_said_where_nothing_changes() -> None:
    """20,000 examples of scores that are their true chances: no alarm of any kind."""
    assert [one for one in said(plain(1, 20_000)) if one.on] == []


def test_labels_that_turn_are_a_loss_since_then() -> None:
    """Labels turned round: every model loses, soon, since then, by so much, and retraining is to begin there."""
    examples = drawn(2, COUNT, flipped=slice(CHANGE, None))._replace(outcomes=["label"] * COUNT)
    signals = said(examples)
    for model in ("served", "online", "batch@7"):
        signal = first(signals, "loss", model)
        assert CHANGE < seen_at(signal) <= CHANGE + 500
        assert CHANGE - 100 <= ((signal.retrain_from or 0) - START) // SECOND <= CHANGE + 50
        assert signal.since.time == signal.retrain_from
    signal = first(signals, "loss", "served")
    losses = clipped_losses(examples.served, examples.labels)
    after = losses[CHANGE : seen_at(signal)].mean()
    assert signal.lost == pytest.approx(after - losses[:CHANGE].mean(), rel=0.25)
    assert signal.severity == "critical"
    assert "since the change" in signal.reason
    assert {one.slice for one in signals if one.on and one.subject == "served" and one.kind == "loss"} == {""}
    first(signals, "calibration", "served: surer than it may be")


def test_a_slice_that_turns_is_named() -> None:
    """Labels turned round for one carrier only: an alert of its own is of it, or it explains the whole best."""
    examples = plain(3)
    turned = (np.arange(COUNT) >= CHANGE) & (examples.carriers == 1)
    signals = said(examples._replace(labels=np.where(turned, 1 - examples.labels, examples.labels)))
    found = [one for one in signals if one.on and (one.kind, one.subject) == ("loss", "served")]
    assert found
    for one in found:
        assert one.slice == "carrier=B" or one.slices[0].name == "carrier=B"
    assert seen_at(found[0]) <= CHANGE + 800


def test_losing_less_is_no_alert() -> None:
    """A model that gets better raises no alert of loss."""
    examples = plain(4)
    better = np.where(examples.labels > 0, 0.95, 0.05)
    signals = said(examples._replace(served=np.where(np.arange(COUNT) < CHANGE, examples.served, better)))
    assert [one for one in signals if one.on and one.kind == "loss"] == []


def test_what_is_over_is_told() -> None:
    """A turn of 1,000 examples is over soon after them, and nothing stands then."""
    signals = [one for one in said(drawn(5, COUNT, flipped=slice(CHANGE, CHANGE + 1000))) if one.kind == "loss"]
    served = [one for one in signals if one.subject == "served" and not one.slice]
    assert served[-1].calm
    assert "is over" in served[-1].reason
    assert seen_at(served[-1]) <= CHANGE + 3000


def test_a_model_that_grows_too_sure_is_told() -> None:
    """Log-odds times 2.5 from one event on: calibration says so, of the model that grew so and of no other."""
    examples = plain(6)
    odds = np.log(examples.served / (1 - examples.served)) * np.where(np.arange(COUNT) < CHANGE, 1, 2.5)
    signals = [one for one in said(examples._replace(served=1 / (1 + np.exp(-odds)))) if one.on]
    signal = first(signals, "calibration", "served: surer than it may be")
    assert CHANGE < seen_at(signal) <= CHANGE + 3000
    assert signals[-1].features[0].value > 2 * signal.features[0].value
    assert {one.subject.partition(":")[0] for one in signals} == {"served"}


def test_the_estimate_needs_no_labels_and_tells_how_far_off_it_was() -> None:
    """Events that grow harder raise the estimate before any label; its error is that of summaries with labels."""
    examples, quality = plain(7, 12_000), Quality(STREAM, 1.0)
    told = summaries(examples)
    for number, summary in enumerate(told):
        assert not quality.fold_scores(summary.source, examples.served[100 * number : 100 * number + 100])
        quality.fold(summary)
    harder, signals = np.full(100, 0.5), []
    for _ in range(10):
        signals += quality.fold_scores(told[-1].source, harder)
    signal = first(signals, "estimate", "served: risen")
    found = quality.view()["estimate"]
    assert isinstance(found, dict)
    expected, lost = expected_loss(examples.served), clipped_losses(examples.served, examples.labels)
    off = np.abs((expected - lost).reshape(-1, 100).mean(axis=1))
    assert found["mean_absolute_error"] == pytest.approx(off.mean(), rel=0.2)
    assert f"off by {found['mean_absolute_error']:.3f}" in signal.reason


def test_an_expected_loss_is_what_true_chances_lose() -> None:
    """Labels drawn by the scores lose what was expected of these, clipping included."""
    rng = np.random.default_rng(8)
    p = rng.beta(0.2, 0.5, 400_000)
    labels = (rng.random(len(p)) < p).astype(np.float64)
    assert expected_loss(p).mean() == pytest.approx(clipped_losses(p, labels).mean(), rel=0.01)


def test_labels_that_fail_to_come_or_come_late_are_told() -> None:
    """Three times as many timeouts, and delays that double, are each an alarm, and neither is one of the models."""
    examples = drawn(9, COUNT)
    rng = np.random.default_rng(9)
    lost = (np.arange(COUNT) >= CHANGE) & (rng.random(COUNT) < 0.15)
    outcomes = ["timeout" if gone else one for gone, one in zip(lost, examples.outcomes, strict=True)]
    signals = [one for one in said(examples._replace(outcomes=outcomes)) if one.on]
    assert CHANGE < seen_at(first(signals, "coverage", "missing labels")) <= CHANGE + 1500
    assert {one.kind for one in signals} == {"coverage"}
    delays = np.where(np.arange(COUNT) < CHANGE, 1, 2) * examples.delays
    signals = [one for one in said(examples._replace(delays=delays)) if one.on]
    assert {(one.kind, one.subject) for one in signals} == {("coverage", "label delay")}
    assert CHANGE < seen_at(signals[0]) <= CHANGE + 1000


def test_silence_is_told() -> None:
    """Where no label comes any more, there are summaries still, and they say so."""
    outcomes = ["label" if place < CHANGE else "timeout" for place in range(COUNT)]
    signals = said(plain(10)._replace(outcomes=outcomes))
    assert seen_at(first(signals, "coverage", "missing labels")) <= CHANGE + 500


def test_versions_are_remembered_up_to_a_number() -> None:
    """Memory is bounded: of ever more versions of the batch model those heard of last are watched."""
    quality = Quality(STREAM, 1.0)
    for number, summary in enumerate(summaries(plain(11, 9000))):
        (batch,) = (one for one in summary.models if one.model == "batch@7")
        new = msgspec.structs.replace(batch, model=f"batch@{number}")
        quality.fold(msgspec.structs.replace(summary, models=[*summary.models[:2], new]))
    watched = quality.view()["loss"]
    assert isinstance(watched, dict)
    assert set(watched) == {"served", "online", *(f"batch@{number}" for number in range(82, 90))}


def test_what_a_person_may_ask_is_json() -> None:
    """The view is of plain values, before the first summary and after many, and after a restart the same."""
    quality = Quality(STREAM, 1.0)
    assert msgspec.json.encode(quality.view())
    for summary in summaries(drawn(12, 5000)):
        quality.fold(summary)
    view, restored = quality.view(), Quality(STREAM, 1.0)
    restored.restore(quality.snapshot())
    assert restored.view() == view == msgspec.json.decode(msgspec.json.encode(view))
    coverage = view["coverage"]
    assert isinstance(coverage, dict)
    assert coverage["delay_s"] == pytest.approx(600, rel=0.2)


@pytest.mark.parametrize(
    ("stretch", "shift", "way"),
    [(0.3, 0.0, "less sure than it may be"), (1.0, -1.0, "too low"), (1.0, 1.0, "too high")],
)
def test_each_way_of_being_out_of_calibration_is_told(stretch: float, shift: float, way: str) -> None:
    """Scores too near the middle, too low or too high: what is said first is which, of the model that is."""
    examples = plain(13)
    odds = np.log(examples.served / (1 - examples.served))
    changed = np.where(np.arange(COUNT) < CHANGE, odds, stretch * odds + shift)
    signals = [one for one in said(examples._replace(served=1 / (1 + np.exp(-changed)))) if one.kind == "calibration"]
    alarms = [one for one in signals if one.on]
    assert CHANGE < seen_at(first(alarms, "calibration", f"served: {way}")) <= CHANGE + 2000
    opposite = {"less sure than it may be": "surer than it may be", "too low": "too high", "too high": "too low"}[way]
    assert f"served: {opposite}" not in {one.subject for one in alarms}


def test_an_estimate_that_falls_is_told() -> None:
    """A model that grows surer foretells a lower loss, and that is said as such, with what it was before."""
    examples, quality = plain(14, 12_000), Quality(STREAM, 1.0)
    (*before, last) = summaries(examples)
    for number, summary in enumerate(before):
        quality.fold(summary)
        quality.fold_scores(summary.source, examples.served[100 * number : 100 * number + 100])
    signals = [one for _ in range(10) for one in quality.fold_scores(last.source, np.full(100, 0.01))]
    signal = first(signals, "estimate", "served: fallen")
    assert f"from {expected_loss(examples.served).mean():.1f}" in signal.reason
    assert not [one for one in signals if one.subject == "served: risen"]


def test_models_that_have_hardly_begun_are_not_judged() -> None:
    """Of the first 5,000 labelled events nothing is told, however a model gets on that has just begun to learn."""
    examples = drawn(15, 5000, flipped=slice(3000, None))._replace(outcomes=["label"] * 5000)
    assert said(examples) == []
    assert Quality(STREAM, 1.0).view()["loss"] == {}
