"""What the drift core says of made-up rows: each kind of change by its name, and nothing where nothing changes."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.local.replayer import records
from infra.local.stack import REPOSITORY
from services.drift.core import DriftCore, ScoredReducer
from services.drift.reducing import ROWS
from services.features.engine import Engine
from services.runtime.alerts import Alert
from services.runtime.errors import Stop
from services.runtime.stream import Stream, load_stream
from tests.scored import MINUTE, Scored

Rows = NDArray[np.float64]
SIZE, START = 90 * ROWS, 70 * ROWS


@cache
def stream(name: str) -> Stream:
    return load_stream(REPOSITORY / "schemas", name)


def rows(name: str = "electricity") -> Rows:
    """Return independent vectors, one-hot blocks in order."""
    rng, made = np.random.default_rng(7), stream(name)
    vectors = rng.normal(3, 0.5, (SIZE, len(made.columns)))
    if name == "flights":
        for feature in ("carrier", "origin"):
            places = [place for place, column in enumerate(made.columns) if column.startswith(f"{feature}=")]
            vectors[:, places] = np.eye(len(places))[rng.integers(len(places), size=SIZE)]
    return vectors


def alerts(
    name: str,
    vectors: Rows,
    served: Rows | None = None,
    at: Callable[[int], int] = lambda row: row * MINUTE,
    champion: Callable[[int], int | None] = lambda _: None,
) -> list[Alert]:
    served = np.random.default_rng(8).beta(2, 3, len(vectors)) if served is None else served
    reducer, core, scored, said = ScoredReducer(stream(name), 0), DriftCore(stream(name)), Scored(stream(name)), []
    for start in range(0, len(vectors), ROWS):
        part = slice(start, start + ROWS)
        times = [at(row) for row in range(start, start + len(vectors[part]))]
        for summary in reducer.fold(scored.message(vectors[part], served[part], times, champion(start))):
            said += core.fold(summary)
    return said


def column(name: str, of: str) -> int:
    return stream(name).columns.index(of)


def raised(said: list[Alert], kind: str) -> Alert:
    return next(alert for alert in said if (alert.event, alert.kind) == ("raised", kind))


@pytest.mark.parametrize("name", ["flights", "electricity"])
def test_warming_up_leaves_no_trace(name: str) -> None:
    """A core that compiled its kernels beforehand is as it was."""
    core = DriftCore(stream(name))
    before = core.snapshot()
    core.warm_up()
    assert core.snapshot() == before


def test_nothing_is_said_where_nothing_changes() -> None:
    """Independent rows raise no alert."""
    assert alerts("electricity", rows()) == []


def test_a_summary_that_was_left_out_is_an_end() -> None:
    """What comes after a gap is not folded, and the error says where the gap is; the log may begin anywhere."""
    reducer, scored = ScoredReducer(stream("electricity"), 0), Scored(stream("electricity"))
    vectors, core = rows()[: 4 * ROWS], DriftCore(stream("electricity"))
    times = [row * MINUTE for row in range(4 * ROWS)]
    made = reducer.fold(scored.message(vectors, np.full(4 * ROWS, 0.5), times, None))
    core.fold(made[1])
    before = core.snapshot()
    with pytest.raises(Stop, match=r"summary 3 of electricity.scored\[0\] follows 1"):
        core.fold(made[3])
    assert core.snapshot() == before
    core.fold(made[2])
    assert core.fold(made[1]) == []


def test_a_shift_is_found_placed_and_shown() -> None:
    """The alert names the column, where it began, and how it was before and after; and is resolved when adopted."""
    vectors = rows()
    vectors[START - 15 * ROWS :, column("electricity", "vic_demand")] += 0.5
    vectors = np.concatenate([vectors, vectors[-10 * ROWS :], vectors[-10 * ROWS :]])
    said = alerts("electricity", vectors)
    alert = raised(said, "features")
    assert [one.name for one in alert.features] == ["vic_demand"]
    assert alert.since.time == (START - 15 * ROWS) * MINUTE
    assert alert.at.time == (START - 14 * ROWS - 1) * MINUTE
    before, after = alert.features[0].before, alert.features[0].after
    assert before
    assert after
    assert before.edges == after.edges
    assert len(before.counts) == len(before.edges) + 1 <= 32
    assert (sum(before.counts), sum(after.counts)) == (31 * ROWS, ROWS)
    assert np.average(np.arange(len(after.counts)), weights=after.counts) > 10
    assert [(one.id, one.event) for one in said][-1] == (alert.id, "resolved")
    assert "normal now" in said[-1].reason


def test_what_explains_most_is_named_first() -> None:
    """Columns are ranked by surprise; a field's own column stands before those that are made of it."""
    vectors = rows()
    for name, shift in (("nsw_demand", 0.5), ("vic_demand", 1.0), ("nsw_price", 0.5), ("price_1d", 3.0)):
        vectors[START:, column("electricity", name)] += shift
    named = [one.name for one in raised(alerts("electricity", vectors), "features").features]
    assert named == ["nsw_price", "price_1d", "vic_demand", "nsw_demand"]


def test_the_old_world_again_resolves() -> None:
    """A change that ends is resolved as what was before."""
    vectors = rows()
    vectors[START : START + 8 * ROWS, 1] += 0.5
    said = alerts("electricity", vectors)
    assert [alert.event for alert in said if alert.kind == "features"][-1] == "resolved"
    assert "before" in [alert for alert in said if alert.kind == "features"][-1].reason


def test_missing_and_far_outside() -> None:
    """Values that are missing, or their default in their place, are told; so are values of another scale."""
    vectors = rows()
    vectors[START::3, 0] = 0.0  # the default
    vectors[START::3, 2] = np.nan
    vectors[START:, 3] *= 1000
    said = alerts("electricity", vectors)
    assert {one.name for one in raised(said, "missing").features} == {"nsw_price", "vic_price"}
    assert [one.name for one in raised(said, "range").features] == ["vic_demand"]


def test_features_that_go_together_otherwise() -> None:
    """Where two columns depend on each other and each alone is as before, joint drift is told, and nothing else."""
    vectors = rows()
    vectors[:, 1] = vectors[:, 0] + np.random.default_rng(9).normal(0, 0.05, SIZE)
    vectors[START:, 1] = 6 - vectors[START:, 1]
    said = alerts("electricity", vectors)
    assert {alert.kind for alert in said} == {"joint"}
    assert raised(said, "joint").since.time >= (START - 2 * ROWS) * MINUTE


def test_fewer_events() -> None:
    """Where a third of the events come, the volume is told with the share that comes, and no feature is blamed."""
    said = alerts("electricity", rows(), at=lambda row: (row if row < START else 3 * row - 2 * START) * MINUTE)
    alert = raised(said, "volume")
    assert {one.kind for one in said} == {"volume"}
    assert alert.strength == pytest.approx(1 / 3, rel=0.05)
    assert alert.since.time == START * MINUTE
    assert alert.severity == "critical"


def test_nights_are_no_drop() -> None:
    """Where every night has a third of the events of a day, no volume is told: the same hour was so before."""
    day = [row % 960 for row in range(2 * SIZE)]  # 720 rows by day, a minute each; 240 by night, three minutes each
    minutes = np.cumsum([1 if place < 720 else 3 for place in day])
    said = alerts("electricity", rows(), at=lambda row: int(minutes[row]) * MINUTE)
    assert [alert for alert in said if alert.kind == "volume"] == []
    half = np.concatenate([minutes[:START], minutes[START::2]])
    fewer = raised(alerts("electricity", rows(), at=lambda row: int(half[row]) * MINUTE), "volume")
    assert fewer.strength == pytest.approx(0.5, rel=0.2), "half of what is usual at the time is told, day and night"
    assert fewer.at.time <= half[START + 3 * ROWS] * MINUTE


def test_a_slice_explains_what_is_its_own() -> None:
    """Where one carrier's delays change, the alert names the delay and that carrier, and no other carrier."""
    vectors = rows("flights")
    mine = vectors[:, column("flights", "carrier=DL")] == 1
    mine[:START] = False
    vectors[mine, column("flights", "delay")] += 3
    alert = raised(alerts("flights", vectors), "features")
    assert alert.features[0].name == "delay"
    assert [one.name for one in alert.slices] == ["carrier=DL"]


def test_a_value_that_vanishes_is_named() -> None:
    """A one-hot feature is one table: a value that is gone shows in its histograms by name."""
    vectors = rows("flights")
    places = [place for place, name in enumerate(stream("flights").columns) if name.startswith("origin=")]
    gone = vectors[:, places[0]] == 1
    gone[:START] = False
    vectors[np.ix_(gone, places)] = [0, 1, 0]
    (origin,) = raised(alerts("flights", vectors), "features").features
    assert origin.name == "origin"
    assert origin.after
    assert origin.after.names == ["EWR", "JFK", "LGA", "none"]
    assert origin.after.counts[0] == 0


def test_a_new_champion_predicts_otherwise() -> None:
    """Predictions that change when another version becomes champion raise nothing; without one they do."""
    served = np.random.default_rng(8).beta(2, 3, SIZE)
    served[START:] = np.random.default_rng(8).beta(3, 2, SIZE - START)
    assert raised(alerts("electricity", rows(), served), "predictions").features[0].name in ("served", "online")
    said = alerts("electricity", rows(), served, champion=lambda row: 1 if row < START else 2)
    assert said == []


def test_a_newer_champion_makes_the_change_normal() -> None:
    """When a version that came after the change is champion, the change is adopted, and the alert says why."""
    vectors = rows()
    vectors[START:, 1] += 0.5
    said = alerts("electricity", vectors, champion=lambda row: 1 if row < START + 8 * ROWS else 2)
    alert = [one for one in said if one.kind == "features"][-1]
    assert (alert.event, alert.at.time) == ("resolved", (START + 9 * ROWS - 1) * MINUTE)
    assert alert.reason.startswith("batch@2 answers")


def test_a_champion_of_another_world_is_told() -> None:
    """When the stream settles in another world, the version that was trained on the old one is said to be of that."""
    vectors = np.concatenate([rows(), rows(), rows()])
    vectors[START:, 1] += 0.5
    said = alerts("electricity", vectors, champion=lambda _: 5)
    alert = next(one for one in said if one.subject == "batch@5")
    settled = next(one for one in said if one.event == "resolved" and one.kind == "features")
    assert alert.at.time >= settled.at.time
    assert [one.name for one in alert.features] == ["nsw_demand"]


def test_victoria_joins_the_market() -> None:
    """Electricity's known change, at row 17,424, is found within 200 rows, and all three columns are named.

    Before it vic_price, vic_demand and transfer were constant.
    """
    made = stream("electricity")
    events = [event for _, kind, event in records(REPOSITORY / "schemas", "electricity", 18_000) if kind == "event"]
    at = np.array([np.datetime64(str(event["at"])[:-1], "us").astype(np.int64) for event in events])
    lists = {name: [event[name] for event in events] for name in made.event["properties"]}
    vectors, _ = Engine(made).fold(lists.__getitem__, at)
    said = alerts("electricity", vectors.astype(np.float64), at=lambda row: int(at[row]))
    joined = [one for one in said if one.kind == "features" and at[17_424] <= one.at.time < at[17_624]]
    named = {explained.name for one in joined for explained in one.features}
    assert {"vic_price", "vic_demand", "transfer"} <= named
    assert not [one for one in said if one.event == "raised" and one.at.time < at[17_424]]
