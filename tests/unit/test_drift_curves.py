"""What `scored` and `examples` add up to over event time, in memory that is bounded."""

from itertools import pairwise

import numpy as np
import pytest

from services.replay.drift.buckets import WIDTHS, Buckets
from services.replay.drift.curves import MOST, Curves
from services.replay.drift.sketch import Delays
from services.replay.drift.words import DAY, HOUR, MINUTE
from services.replay.online import open_batch
from services.replay.verify import Span
from services.runtime.quality import log_loss
from services.runtime.records import Record
from tests.drifted import FIRST, HALF_HOUR, Log, at, has_label, wall
from tests.duels import Row, record, stream

ROWS = 9_600


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(ROWS)


@pytest.fixture(scope="module")
def curves(log: Log) -> Curves:
    return folded(log, 5)


def folded(log: Log, at_once: int, span: Span | None = None) -> Curves:
    """Fold the log, so many messages at once."""
    curves = Curves(span)
    for kind, fold in (("scored", curves.fold_scored), ("examples", curves.fold_examples)):
        records = log.log.read(log.stream.topic(kind))
        for start in range(0, len(records), at_once):
            fold(records[start : start + at_once])
    return curves


def test_each_width_is_a_multiple_of_the_one_before() -> None:
    """So that buckets merge whole."""
    assert all(wide % narrow == 0 for narrow, wide in pairwise(WIDTHS))


def test_buckets_are_bounded_and_lose_nothing() -> None:
    """However many times there are: the sums are those of all rows, and the order in which they came is no matter."""
    rng = np.random.default_rng(1)
    times, values = rng.integers(0, 400 * DAY, 5_000), rng.integers(0, 9, (5_000, 2)).astype(float)
    forward, backward = Buckets(50), Buckets(50)
    for buckets, order in ((forward, np.argsort(times)), (backward, np.argsort(-times))):
        for part in np.array_split(order, 31):
            buckets.fold("x", times[part], values[part])
    assert 25 < len(forward.times()) <= 50
    assert forward.width == backward.width
    assert np.array_equal(forward.rows("x", 2), backward.rows("x", 2))
    assert forward.rows("x", 2).sum(axis=0).tolist() == values.sum(axis=0).tolist()
    first = forward.times()[0]
    within = (times >= first) & (times < first + forward.width)
    assert forward.rows("x", 2)[0].tolist() == values[within].sum(axis=0).tolist()


def test_series_share_their_buckets() -> None:
    """One that is wide makes all wide; where a series has nothing it is 0."""
    buckets = Buckets(4)
    buckets.fold("a", np.array([0, 1]), np.ones((2, 1)))
    buckets.fold("b", np.arange(10) * HOUR, np.ones((10, 1)))
    assert buckets.width == 3 * HOUR
    assert buckets.rows("a", 1).ravel().tolist() == [2, 0, 0, 0]
    assert buckets.rows("b", 1).ravel().tolist() == [3, 3, 3, 1]


def test_losses_are_those_of_the_rows(log: Log, curves: Curves) -> None:
    """The mean of what each row cost, by hand, for what was served, the online model and a version."""
    costs: dict[str, list[float]] = {"served": [], "online": [], "batch@1": []}
    for found in log.log.read("electricity.examples"):
        for row in open_batch(found).to_pylist():
            costs["served"].append(log_loss(row["served"], row["label"]))
            costs["online"].append(log_loss(row["online"]["score"], row["label"]))
            costs["batch@1"] += [log_loss(said["score"], row["label"]) for said in row["batch"]]
    assert curves.models == list(costs)
    for name, found in costs.items():
        count, mean = curves.total(name)
        assert (count, mean) == (len(found), pytest.approx(np.mean(found)))
    assert curves.total("batch@1")[0] < curves.total("online")[0], "it came later"


def test_volume_coverage_and_delay(curves: Curves) -> None:
    """Each event counts in the bucket of its time; the labels of the last weeks are scarce."""
    assert curves.sums("scored")[:, 0].sum() == ROWS
    assert len(curves.times) <= MOST
    assert (curves.first, curves.last) == (FIRST, at(ROWS - 1))
    labelled = np.flatnonzero(has_label(np.arange(ROWS)))
    assert curves.total("labelled")[0] == len(labelled)
    assert curves.coverage()[0] == 1
    assert curves.coverage()[-2] == pytest.approx(1 / 3, abs=0.02)
    assert np.allclose(curves.mean("labelled"), HALF_HOUR / 1e6)
    assert curves.delays.quantile(0.5) == pytest.approx(1_800, rel=0.02)


def test_how_messages_are_cut_is_no_matter(log: Log, curves: Curves) -> None:
    """One by one or many at once: the same sums."""
    other = folded(log, 1)
    assert other.width == curves.width
    for name in ("scored", "labelled", *curves.models):
        assert np.allclose(other.sums(name), curves.sums(name))


def test_a_span_bounds_what_counts(log: Log) -> None:
    """By the time of the event; what event time had been reached when is of the whole log."""
    found = folded(log, 5, Span(at(1_000), at(1_480)))
    assert (found.total("scored")[0], found.first, found.last) == (480, at(1_000), at(1_479))
    assert found.event_time(wall(9_000) * 1000) == pytest.approx(at(9_000), abs=600 * HALF_HOUR)


def test_event_time_by_the_brokers_clock(curves: Curves) -> None:
    """Known to the message, and to the bucket of the clock; before all events there is none."""
    assert curves.event_time(wall(-1) * 1000 - MINUTE) is None
    reached = [curves.event_time(wall(row) * 1000) or 0 for row in range(600, ROWS, 300)]
    assert reached == sorted(reached)
    assert np.abs(np.array(reached) - [at(row) for row in range(600, ROWS, 300)]).max() <= 600 * HALF_HOUR
    assert curves.event_time(wall(99_000) * 1000) == curves.last


def test_a_first_label_counts_and_no_other() -> None:
    """A correction, and a row of which nothing is known, leave the losses as they are."""
    given = stream()
    rows = [Row(0, n, "A", 1.0, 0.8, []) for n in range(4)]
    unknown = [Row(0, 9, "A", None, 0.8, [])]
    curves = Curves()
    curves.fold_examples([record(given, rows, 0), record(given, rows, 1, retracts=0.0), record(given, unknown, 2)])
    assert curves.total("online") == (4, pytest.approx(-np.log(0.8)))
    assert curves.total("labelled")[0] == 4


def test_a_log_without_a_score_of_the_online_model() -> None:
    """A score that did not come in time costs that model nothing."""
    rows = [Row(0, 0, "A", 1.0, None, []), Row(0, 1, "A", 1.0, 0.5, [])]
    curves = Curves()
    curves.fold_examples([record(stream(), rows, 0)])
    assert (curves.total("online")[0], curves.total("served")[0]) == (1, 2)


def test_messages_of_nothing_are_nothing() -> None:
    """No rows, no buckets: all that is asked of them is answered."""
    curves = Curves()
    curves.fold_examples([record(stream(), [], 0)])
    assert (curves.total("served"), len(curves.times), curves.models) == ((0, None), 0, [])
    assert curves.event_time(0) is None
    assert curves.delays.quantile(0.5) is None


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 1.0])
def test_quantiles_to_two_percent(share: float) -> None:
    """Over eight decades of delay."""
    waited = 10 ** np.random.default_rng(1).uniform(-2, 6, 10_000)
    delays = Delays()
    for part in np.array_split(waited, 7):
        delays.fold(part)
    assert delays.quantile(share) == pytest.approx(np.quantile(waited, share, method="inverted_cdf"), rel=0.021)


def test_a_record_is_read_whatever_its_feature_set() -> None:
    """A report spans changes of the features: it looks at none of them."""
    one, other = stream(), Log(10).stream
    assert one.feature_set != other.feature_set
    mixed: list[Record] = [*Log(10).log.read("electricity.examples"), record(one, [Row(0, 0, "A", 1.0, 0.5, [])], 0)]
    curves = Curves()
    curves.fold_examples(mixed)
    assert curves.total("served")[0] == 11
