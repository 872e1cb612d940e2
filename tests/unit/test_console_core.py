"""The console's picture: what summaries, records and looks at the run add up to, in bounded memory."""

import ast
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from services.console import drifting, quality, tape
from services.console.core import ConsoleCore
from services.console.drifting import Drifting
from services.console.flow import Probe
from services.console.quality import Quality
from services.console.rates import Rate
from services.console.span import Span
from services.console.tailing import SAID
from services.console.topology import PARTS
from services.console.versions import POINTS, Versions
from services.console.why import reasons
from services.runtime.alerts import Alert, Place
from services.runtime.commands import Hold, Silence
from services.runtime.dead_letters import DeadLetter, Replayed
from services.runtime.layout import Layout
from services.runtime.models import BATCH, Moved, Published, Registered, Weighed
from services.runtime.records import Record
from services.runtime.stream import load_stream
from services.runtime.summaries import ExampleSummary, Judged, ScoredSummary, Source, decode_summary, encode_summary

ROOT = Path(__file__).parents[2]
STREAM = load_stream(ROOT / "schemas", "flights")
LAYOUT = Layout(STREAM)


def source(number: int, topic: str = "flights.examples", partition: int = 0) -> Source:
    return Source(topic, partition, number, number, number, number * 1_000_000, number * 1_000_000 + 1000)


def judged(model: str, loss: float, ones: int = 20, rows: int = 100) -> Judged:
    """Say of a model that it lost `loss` nats a row, and said 0.25 of each of them."""
    bins, slices = np.zeros((10, 3)), np.zeros((len(LAYOUT.sliced), 3))
    bins[2] = rows, 0.25 * rows, ones
    slices[0] = rows, loss * rows, 0
    return Judged(model, rows, np.array([loss * rows, *[0.0] * 6]).tobytes(), bins.tobytes(), slices.tobytes())


def example(number: int, *models: Judged) -> ExampleSummary:
    return ExampleSummary(source(number), 100, (90, 6, 3, 1), (90, 900.0, 9000.0, 60.0), list(models))


def scored(number: int, values: Any, hot: Any = None) -> ScoredSummary:
    numbers = np.tile(np.asarray(values, np.float32), (len(LAYOUT.numbers), 1))
    counts = np.zeros(LAYOUT.hot_width, np.uint16) if hot is None else hot
    return ScoredSummary(source(number, "flights.scored"), 200, numbers.tobytes(), b"", b"", counts.tobytes(), b"", b"")


def record(value: Any, offset: int = 0, topic: str = "flights.models", timestamp: int = 0) -> Record:
    return Record(topic, 0, offset, b"k", msgspec.json.encode(value), timestamp)


@pytest.fixture
def core() -> ConsoleCore:
    return ConsoleCore(STREAM, lambda _, value: value)


# Quality


def test_a_point_is_the_mean_loss_of_each_model() -> None:
    """What is shown is what the summaries say; "batch" is the champion, the newest version where none is champion."""
    found = Quality(LAYOUT)
    found.fold([example(0, judged("served", 0.4), judged("batch@1", 0.5), judged("batch@2", 0.6))], champion=1)
    found.fold([example(1, judged("served", 0.2), judged("batch@1", 0.5), judged("batch@2", 0.6))], champion=None)
    (first, second) = found.view()[0]["points"]
    assert first[1] | {"prior": 0} == {"served": 0.4, "batch@1": 0.5, "batch@2": 0.6, "batch": 0.5, "prior": 0}
    assert second[1]["batch"] == 0.6
    assert (first[0], first[2]) == (1, 100)


def test_the_prior_knows_the_labels_before_and_none_of_now() -> None:
    """Guessing by how frequent 1 was before: at first a half, then the share so far."""
    found = Quality(LAYOUT)
    found.fold([example(number, judged("served", 0.4, ones=20)) for number in range(2)], champion=None)
    first, second = (point[1]["prior"] for point in found.view()[0]["points"])
    p = 21 / 102
    assert first == pytest.approx(math.log(2), abs=1e-5)
    assert second == pytest.approx(-(0.2 * math.log(p) + 0.8 * math.log(1 - p)), abs=1e-5)


def test_a_summary_counts_once() -> None:
    """Whoever reads a summary twice has the same picture."""
    found = Quality(LAYOUT)
    for _ in range(2):
        found.fold([example(0, judged("served", 0.4))], champion=None)
    assert len(found.view()[0]["points"]) == 1
    assert found.view()[0]["coverage"]["label"] == 90


def test_points_are_bounded_and_lose_nothing() -> None:
    """However many summaries come, points stay few, and their rows and losses add up to all of them."""
    found, count = Quality(LAYOUT), 5 * quality.POINTS + 7
    for number in range(count):
        found.fold([example(number, judged("served", number / count))], champion=None)
    points = found.view()[0]["points"]
    assert quality.POINTS / 3 < len(points) <= quality.POINTS
    assert sum(point[2] for point in points) == 100 * count
    total = sum(point[1]["served"] * point[2] for point in points)
    assert total == pytest.approx(sum(100 * number / count for number in range(count)), rel=1e-4)
    times = [point[0] for point in points]
    assert times == sorted(times)


def test_who_follows_has_what_who_comes_anew_has() -> None:
    """Points since a cursor, put in place from `first` on, are the whole at every moment, halving included."""
    found, shown, cursor = Quality(LAYOUT), list[Any](), (-1, 0)
    for number in range(2 * quality.POINTS + 50):
        found.fold([example(number, judged("served", 0.3))], champion=None)
        if number % 7 == 0:
            said, cursor = found.view(cursor)
            shown = [*shown[: said["first"]], *said["points"]]
            assert shown == found.view()[0]["points"]
    assert len(found.view(cursor)[0]["points"]) <= 8


def test_calibration_and_slices_are_of_what_was_served() -> None:
    """A bin says what was predicted and what came; a slice is named as its feature's value."""
    found = Quality(LAYOUT)
    found.fold([example(0, judged("served", 0.4, ones=30), judged("online", 9.0))], champion=None)
    said = found.view()[0]
    assert said["calibration"] == [[0.25, 0.3, 100]]
    field, _, value = LAYOUT.sliced[0].partition("=")
    assert said["slices"] == [{"field": field, "value": value, "n": 100, "log_loss": 0.4}]
    assert said["coverage"]["share"] == pytest.approx(93 / 99, abs=1e-4)
    assert said["coverage"]["mean_delay_s"] == 10.0


# Drift


def test_what_is_as_before_is_near_and_what_moved_is_far() -> None:
    """The strength is 0 where nothing changed and 1 where no value is where it was."""
    found, calm = Drifting(LAYOUT), np.linspace(0, 1, 100)
    found.fold([scored(number, calm) for number in range(drifting.FIRST)])
    found.fold([scored(100, calm), scored(101, calm + 5)])
    strength = found.view()["strength"][0]
    assert strength[0] == pytest.approx(0, abs=0.01)
    assert strength[1] == pytest.approx(0.95, abs=0.06)
    said = found.view()["before_after"][LAYOUT.numbers[0]]
    assert sum(said["before"]) == pytest.approx(1, abs=0.01)
    assert len(said["before"]) == len(said["edges"]) + 1


def test_the_shares_of_a_one_hot_feature_are_compared() -> None:
    """A value that takes the place of another is as far as its share."""
    found, name = Drifting(LAYOUT), next(iter(LAYOUT.hots))
    one, other = (np.zeros(LAYOUT.hot_width, np.uint16) for _ in range(2))
    one[LAYOUT.spans[name].start] = other[LAYOUT.spans[name].start + 1] = 200
    found.fold([scored(number, np.ones(100), one) for number in range(drifting.FIRST)])
    found.fold([scored(50, np.ones(100), other)])
    place = found.view()["features"].index(name)
    assert found.view()["strength"][place] == [1.0]


def test_columns_that_are_missing_crash_nothing_and_times_are_bounded() -> None:
    """NaN throughout is a column at rest; times are merged as they become many."""
    found = Drifting(LAYOUT)
    found.fold([scored(number, np.full(100, np.nan)) for number in range(3 * drifting.TIMES)])
    said = found.view()
    assert drifting.TIMES / 3 < len(said["times"]) <= drifting.TIMES
    assert np.isfinite(said["strength"]).all()
    assert said["times"] == sorted(said["times"])


def test_a_summary_of_scored_is_told_by_its_head() -> None:
    """The bytes by which the reader passes summaries over are in the head of one kind, never of the other."""
    one, other = encode_summary(scored(1, np.ones(100))), encode_summary(example(1, judged("served", 0.4)))
    assert SAID in one[:8]
    assert SAID not in other[:8]
    assert isinstance(decode_summary(one), ScoredSummary)


# Models, alerts, dead letters


def registered(version: int) -> Registered:
    return Registered(BATCH, version, STREAM.feature_set, 1000, 0.3, 0.5, "schedule")


def test_versions_have_their_state_their_reason_and_their_evidence() -> None:
    """A version is as its last record says, by whom and why; evidence gathers as rollout weighs."""
    found = Versions(STREAM)
    said: Sequence[Any] = [
        Published("online", 40, STREAM.feature_set, 40, None),
        registered(1),
        Moved(BATCH, 1, "shadow", "rollout", "its turn"),
        Weighed(BATCH, {1: 0.75}, {1: (100, 0.5, -0.2)}),
        Weighed(BATCH, {1: 0.75}, {1: (200, 1.5, -0.9)}),
        Moved(BATCH, 1, "champion", "ann@desk", "better"),
    ]
    found.fold([record(one, place, timestamp=place * 1000) for place, one in enumerate(said)])
    found.fold([Record("flights.models", 0, 9, b"k", b"no json")])
    online, batch = found.view()["versions"]
    assert (online["name"], online["state"]) == ("online@40", "live")
    assert (batch["name"], batch["state"], batch["by"], batch["reason"]) == (
        "batch@1",
        "champion",
        "ann@desk",
        "better",
    )
    assert (batch["weight"], batch["since"]) == (0.75, 5000)
    assert batch["evidence"] == [(100, 0.5, -0.2), (200, 1.5, -0.9)]
    assert found.champion == 1


def test_evidence_is_bounded() -> None:
    """However long a challenger is compared, its curve has few points, and the first and the newest are among them."""
    found = Versions(STREAM)
    found.fold([record(registered(1))])
    found.fold([record(Weighed(BATCH, {1: 0.5}, {1: (n, n / 10, 0.0)}), n) for n in range(1, 5 * POINTS)])
    evidence = found.view()["versions"][0]["evidence"]
    assert len(evidence) <= POINTS
    assert (evidence[0][0], evidence[-1][0]) == (1, 5 * POINTS - 1)


def test_an_alert_stands_until_it_is_resolved(core: ConsoleCore) -> None:
    """The newest record of an alert says whether it stands; a hold is shown while it holds."""
    place = Place(1, "scored", 0, 1)
    alert = Alert("loss:online:1", 0, "raised", "loss", "online", "critical", place, place, "log_loss", 0.2, "worse")
    core.alarmed([record(alert)])
    core.ordered([record(Hold(True, "ann@desk", "wait"))])  # noqa: FBT003
    said = core.view("alerts")
    assert ([one["id"] for one in said["open"]], said["recent"]) == (["loss:online:1"], [])
    assert said["hold"].reason == "wait"
    core.alarmed([record(msgspec.structs.replace(alert, number=1, event="resolved")), record(alert)])
    core.ordered([record(Hold(False, "ann@desk", "go"))])  # noqa: FBT003
    said = core.view("alerts")
    assert (said["open"], [one.id for one in said["recent"]]) == ([], ["loss:online:1"])
    assert said["hold"] is None


def test_an_alert_says_until_when_people_have_silenced_it(core: ConsoleCore) -> None:
    """Whoever orders it later than the alert was written is heard; another kind's silence is not its own."""
    place = Place(1, "scored", 0, 1)
    core.alarmed([record(Alert("a", 0, "raised", "loss", "online", "critical", place, place, "loss", 0.2, "worse"))])

    def until() -> int:
        return int(core.view("alerts")["open"][0]["silenced_until"])

    assert until() == 0
    core.ordered([record(Silence("on*", 7, "ann@desk", "known", "")), record(Silence("online", 9, "a", "b", "volume"))])
    assert until() == 7
    core.ordered([record(Silence("on*", 3, "ann@desk", "over", ""))])
    assert until() == 3


def test_a_letter_that_was_sent_again_says_so(core: ConsoleCore) -> None:
    """Letters are listed newest first by where they stand, and what was replayed is marked."""
    letters = [DeadLetter("features", "json", "no json", "flights.events", 1, n, None, "e30=") for n in range(2)]
    core.refused([record(letter, n) for n, letter in enumerate(letters)])
    core.refused([record(Replayed("flights.events", 1, 0), 2)])
    said = core.view("dead")
    assert said["count"] == 2
    assert [(one["offset"], one["replayed"]) for one in said["newest"]] == [(1, False), (0, True)]


# Tape


def prediction(number: int, key: str = "JFK", score: float = 0.5) -> Record:
    found = {
        "event_id": f"e{number}",
        "key": key,
        "event_time": "2013-01-05T14:02:00Z",
        "prediction": {"late": score},
        "scores": {"online@1": score},
        "weights": {"online@1": 1.0},
        "source": {"partition": 2, "offset": number},
    }
    return record(found, number, "flights.predictions", timestamp=number)


def test_the_tape_is_bounded_and_newest_first(core: ConsoleCore) -> None:
    """Few are shown, the newest at the top; those that are kept are bounded, and can be found by their id."""
    core.sampled([prediction(number) for number in range(tape.KEPT + 10)], 1.0)
    shown = core.view("tape")["predictions"]
    assert len(shown) == tape.SHOWN
    assert (shown[0]["event_id"], shown[0]["offset"], shown[0]["score"]) == (f"e{tape.KEPT + 9}", tape.KEPT + 9, 0.5)
    assert shown[0]["event_time"] == 1357394520000
    assert core.tape.find("e5") is None
    assert core.tape.find("e10") is not None


def test_similar_ones_are_of_the_same_key_and_near(core: ConsoleCore) -> None:
    """Similar to an event is another of its key, by how near the score is."""
    core.sampled(
        [prediction(1, score=0.5), prediction(2, score=0.9), prediction(3, score=0.55), prediction(4, "LGA")], 1.0
    )
    seen = core.tape.find("e1")
    assert seen is not None
    assert core.tape.similar(seen) == ["e3", "e2"]


def test_what_is_marked_is_shown_hashed() -> None:
    """A key or an id that says who somebody is never gets into what is shown, and is found by what stands for it."""
    core = ConsoleCore(STREAM, lambda field, value: f"pii:{field}" if field in ("origin", "event_id") else value)
    core.sampled([prediction(1)], 1.0)
    (row,) = core.view("tape")["predictions"]
    assert (row["event_id"], row["key"]) == ("pii:event_id", "pii:origin")
    assert core.tape.find("pii:event_id") is not None


# Flow


def test_a_rate_is_of_the_last_looks_and_begins_again() -> None:
    """A count a second, however often it was looked at; one that shrinks has begun again, and is never negative."""
    rate = Rate()
    assert rate.a_second == 0
    for second in range(10):
        rate.look(1000 * second, 50 * second)
    assert rate.a_second == pytest.approx(50)
    for second in range(10, 22, 4):
        rate.look(1000 * second, 450 + 100 * (second - 9))
    assert rate.a_second == pytest.approx(100)
    rate.look(22_000, 3)
    assert (rate.a_second, rate.begun_again) == (0, 1)
    rate.look(23_000, 23)
    assert rate.a_second == pytest.approx(20)


def test_the_river_says_who_is_slow_and_who_is_silent(core: ConsoleCore) -> None:
    """Rates come from what is folded and where topics end, seconds behind from both, silence from no answer."""
    for second in range(4):
        core.ended(1000 * second, {"events": 100 * second, "features": 10 * second})
        core.probed(
            1000 * second,
            {"features": Probe("features", "ready", None, 50 * second, {"events": 100}), "labels-2": None},
        )
    said = core.view("flow")
    features, labels = said["services"]
    assert (features["in_rate"], features["out_rate"]) == (50, 10)
    assert (features["lag_records"], features["lag_s"]) == (100, 2.0)
    assert (labels["name"], labels["instance"], labels["status"]) == ("labels", "2", "silent")
    assert {"name": "events", "rate": 100.0, "end": 300} in said["topics"]
    assert ["events", "features", "reads"] in said["edges"]
    core.sampled([prediction(1)], 0.5)
    core.ended(4000, {"predictions": 400})
    core.ended(5000, {"predictions": 500})
    assert {"name": "predictions", "rate": 50.0, "end": 500} in core.view("flow")["topics"]  # half of it is no record
    core.ended(5000, {}, "the broker at 127.0.0.1:1: down")
    assert core.view("flow")["waiting_for"] == "the broker at 127.0.0.1:1: down"


def test_latency_is_that_of_a_service_s_own_spans(core: ConsoleCore) -> None:
    """Median and 99th percentile of the last minute; Triton's queue and compute come from its own marks."""
    now = 10_000_000

    def span(service: str, kind: Any, taken_ms: float, **more: Any) -> Span:
        end = now * 1_000_000
        return Span("1" * 32, "1" * 16, None, "x", service, kind, end - round(taken_ms * 1e6), end, **more)

    marks = {"QUEUE_START": 0, "COMPUTE_START": 2_000_000, "COMPUTE_END": 5_000_000}
    events = [{"name": name, "time_ns": at} for name, at in marks.items()]
    core.traced([span("features", "CONSUMER", ms) for ms in range(1, 101)])
    core.traced([span("features", "PRODUCER", 9_999), span("triton", "INTERNAL", 5, events=events)])
    core.probed(now, {"features": Probe("features", "ready")})
    said = core.view("flow")
    assert said["services"][0]["latency_ms"] == {"p50": 51, "p99": 100}
    assert (said["triton"]["queue_ms"], said["triton"]["compute_ms"]) == (2, 3)
    core.probed(now + 61_000, {"features": Probe("features", "ready")})
    assert core.view("flow")["services"][0]["latency_ms"] is None


def test_triton_is_away_if_somebody_waits_for_it(core: ConsoleCore) -> None:
    """And only then: of an inference that is silent nobody knows what it waits for."""
    for waits, ready in (("Triton at 127.0.0.1:1: no answer", False), ("its share", True), (None, True)):
        core.probed(1, {"inference": Probe("inference", "waiting", waits)})
        assert core.view("flow")["triton"]["ready"] is ready
    core.probed(2, {"inference": None})
    assert core.view("flow")["triton"]["ready"] is True


def test_the_river_is_that_of_the_services_own_pages() -> None:
    """What the page draws as read and written is what each service's package says."""
    for service, part in PARTS.items():
        page = ast.get_docstring(ast.parse((ROOT / "services" / service / "__init__.py").read_text())) or ""
        reads, writes = re.search(r"Reads (.*?)[;.] writes (.*?)[;.] keeps ", page.replace("\n", " ")).groups()  # type: ignore[union-attr]
        assert set(part.reads) == set(re.findall(r"`([\w-]+)`", reads)), service
        assert set(part.writes) == set(re.findall(r"`([\w-]+)`", writes)), service
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert set(PARTS) == folders - {"console"}


def test_every_feature_has_its_reason() -> None:
    """Each column of the vector is explained in words that name its field or its window."""
    found = reasons(STREAM)
    assert tuple(found) == STREAM.columns
    assert found["carrier_delay_3h"] == "the mean of departure_delay_min within 3h, same origin and carrier"
    assert found["carrier=DL"] == "1 where carrier is DL"
    assert all(found.values())


def test_news_grows_with_every_change(core: ConsoleCore) -> None:
    """Whoever shows a part sees by its number that it has changed, and that the others have not."""
    before = dict(core.news)
    core.sampled([prediction(1)], 1.0)
    assert {part for part in before if core.news[part] != before[part]} == {"tape"}
    core.summed_up([example(0, judged("served", 0.4))], [])
    assert core.news["quality"] == before["quality"] + 1
    assert core.news["drift"] == before["drift"]
