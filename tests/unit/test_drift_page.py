"""The report's page: all that the log tells of alerts and versions, as markup that is whole and needs nothing else."""

import re
from collections import defaultdict
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from services.replay.drift.axes import ticks, time_ticks
from services.replay.drift.curves import Curves
from services.replay.drift.distributions import bars, picture
from services.replay.drift.lanes import Rows
from services.replay.drift.markup import Markup, join, tag
from services.replay.drift.page import page
from services.replay.drift.reading import read_report
from services.replay.drift.report import Report
from services.replay.drift.stories import Stories, ranked
from services.replay.drift.summary import summary
from services.replay.drift.words import DAY, HOUR, MINUTE, NONE, SECOND, lasting, moment, named, number, roughly, share
from services.replay.verify import Span
from services.runtime.alerts import Alert, Explained, Histogram
from services.runtime.chronicle import Chronicle
from services.runtime.commands import Hold, Orders
from services.runtime.models import BATCH, Registered
from services.runtime.records import Position
from tests.drifted import CALM, FEATURES, HALF_HOUR, LOSS, MISSING, WALL, Log, at, has_label, place, wall

NOW = (WALL + 100_000) * 1000
EVIL = "</style><script src='http://evil.example/x.js'>alert(1)</script>\"'&<img src=x onerror=y>"
VOID = {"meta", "br", "col"}


class Page(HTMLParser):
    """What a page has: its tags, its attributes, its text; whether all that opens closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = defaultdict(list)
        self.words: list[str] = []
        self.within: dict[str, list[str]] = defaultdict(list)
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes[name].append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        for name in self.open:
            self.within[name].append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def report(log: Log, span: Span | None = None) -> Report:
    return read_report(log.stream, log.history, span or Span(), NOW, lambda *_: None)


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def whole(log: Log) -> Report:
    return report(log)


@pytest.fixture(scope="module")
def parsed(whole: Report) -> Page:
    return Page(page(whole))


def small(*alerts: Alert) -> Log:
    """Return a log of few events with these alerts alone, and no versions."""
    log = Log(2_000)
    for kind in ("alerts", "models", "commands"):
        log.log.topics[Position(log.stream.topic(kind), 0)].clear()
    log.say("alerts", *((wall(1_500), alert) for alert in alerts))
    return log


def alert(name: str = "features:x:0-900", **more: object) -> Alert:
    made = Alert(
        name, 0, "raised", "features", "x", "warning", place(900), place(1_000), "psi", 0.4, "x is not as before"
    )
    return msgspec.structs.replace(made, **more)


def test_every_alert_and_version_is_there(parsed: Page, whole: Report) -> None:
    """In a table, with a place of its own that the table leads to; each decision with who and why."""
    assert [story.id for story in whole.stories] == [FEATURES, LOSS, MISSING]
    ids, links = parsed.attributes["id"], parsed.attributes["href"]
    assert len(ids) == len(set(ids)) == 3
    assert links == [f"#{name}" for name in ids]
    for story in whole.stories:
        assert story.id in parsed.within["table"]
        assert story.newest.reason in parsed.words
        for explained in story.newest.features:
            assert f"{explained.name}, before and after" in parsed.within["svg"]
    for mark in whole.marks:
        assert mark.version in parsed.within["table"]
        assert mark.step.actor in parsed.within["table"]
    for done in whole.stories[1].newest.done:
        assert done in parsed.within["li"]
    assert "batch@2 registered" in " ".join(parsed.within["li"]), "it was trained for the alert, and names it"


def test_the_page_needs_nothing_else(whole: Report, parsed: Page) -> None:
    """No address, no script, no picture of elsewhere; every picture says what it shows; it is whole."""
    text = page(whole)
    assert not re.search(r"https?:|url\(|@import|src=|<script|<link|<iframe| on\w+=", text)
    assert parsed.open == []
    assert parsed.tags.count("svg") == 1 + 4, "a timeline, and each feature"
    for drawn in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert re.match(r"<svg[^>]* role=\"img\"[^>]*><title>[^<]+</title><desc>[^<]+</desc>", drawn)
    assert "nan" not in re.sub(r"[a-z]{2,}nan|nan[a-z]+", "", text.lower()).replace("ann", "")
    assert all(
        np.isfinite(float(value))
        for name in ("x", "y", "width", "height", "x1", "y2")
        for value in parsed.attributes[name]
    )
    assert len(text) < 400_000


def test_nothing_from_the_log_is_markup() -> None:
    """Whatever names, reasons and values are: they are text."""
    found = Histogram([3, 1], names=[EVIL, "b"])
    evil = Explained(EVIL, EVIL, 1.0, found, found)
    log = small(
        alert(EVIL, subject=EVIL, reason=EVIL, slice=EVIL, features=[evil], slices=[evil], done=[EVIL], statistic=EVIL)
    )
    log.say("models", (wall(900), Registered(BATCH, 1, log.stream.feature_set, 9, 0.5, 0.6, EVIL)))
    log.say("commands", (wall(900), Hold(held=True, actor=EVIL, reason=EVIL)))
    made = Page(page(report(log)))
    plain = Page(page(report(small(alert(features=[evil], slices=[evil], done=["x"])))))
    assert set(made.tags) <= set(plain.tags) | {"small"}
    assert not {"script", "img"} & set(made.tags)
    assert not {"onerror", "src"} & set(made.attributes)
    assert made.text.count(EVIL) >= 8


def test_ten_seconds(whole: Report, log: Log) -> None:
    """The sentence on top says what stands, since when, what it costs, what was done; or that nothing does."""
    told = summary(whole)
    assert (told.tone, told.headline) == ("critical", "1 critical alert standing")
    assert told.sentence.startswith(
        "Since 1997-05-05 00:00Z features changed: vic_price, vic_demand and transfer. Served"
    )
    assert re.search(r"log loss: 0\.3\d\d now, 0\.\d{3} before\. Nothing was done about it yet\.$", told.sentence)
    early = summary(report(log, Span(at(0), at(9_000))))
    assert (early.tone, early.headline) == ("calm", "Nothing stands")
    assert (
        "1 alert was raised and resolved; the last (values are missing: nsw_demand) lasted 27 d 2 h." in early.sentence
    )
    calm = summary(report(small()))
    assert (calm.tone, calm.headline) == ("calm", "Nothing drifted")
    assert "over 2,000 events, 2,000 labelled" in calm.sentence
    assert summary(report(log, Span(at(10_000), at(12_000)))).headline == "Nothing drifted"


def test_a_log_of_nothing() -> None:
    """Before the first event, and where no drift runs, there is a page that says so."""
    nobody = Report("x", Span(), NOW, None, Chronicle("made:0"), Orders(), Curves())
    assert "Nobody watched" in Page(page(nobody)).text
    nothing = Report("x", Span(), NOW, Stories(), Chronicle("made:0"), Orders(), Curves())
    assert "No events" in Page(page(nothing)).text
    log = small(alert())
    log.log.topics[Position(log.stream.topic("scored"), 0)].clear()
    log.log.topics[Position(log.stream.topic("examples"), 0)].clear()
    assert "1 alert standing" in Page(page(report(log))).text, "alerts without events"


def test_losses_around_an_alert(whole: Report) -> None:
    """Before it for as long as it stood, while it stood, and after."""
    story = next(story for story in whole.stories if story.id == LOSS)
    around = whole.around(story)
    before, during, after = (part.loss or 0 for part in around)
    assert max(before, after) < 0.38
    assert during > 0.42
    labelled = np.count_nonzero(has_label(np.arange(17_480, CALM)))
    assert around.during.labelled == pytest.approx(labelled, abs=2 * whole.curves.width / HALF_HOUR)


def test_many_alerts() -> None:
    """All are in the table; as many as are read by anybody are told in full."""
    many = small(*(alert(f"features:x:0-{n}", since=place(n), at=place(n + 20)) for n in range(300)))
    made = Page(page(report(many)))
    assert made.tags.count("article") == 40
    assert all(f"features:x:0-{n}" in made.within["table"] for n in range(300))
    assert "260 alerts more in the table alone." in made.text
    assert set(made.attributes["href"]) == {f"#{name}" for name in made.attributes["id"]}


# Stories


def test_an_alert_that_is_read_twice_counts_once(log: Log) -> None:
    """Its newest record holds, in whichever order they come."""
    records = log.log.read("electricity.alerts")
    one, other = Stories(), Stories()
    for record in records:
        one.fold(record)
    for record in [*records, *reversed(records)]:
        other.fold(record)
    for stories in (one, other):
        told = {story.id: ([turn.event for turn in story.turns], story.stands) for story in stories.all()}
        assert told == {
            MISSING: (["raised", "resolved"], False),
            FEATURES: (["raised", "updated"], True),
            LOSS: (["raised", "updated", "resolved"], False),
        }
        assert [story.id for story in ranked(stories.all())] == [FEATURES, LOSS, MISSING]
    assert [story.id for story in one.find("loss")] == [LOSS]
    assert one.find(FEATURES)[0].strongest == 8.12


# Pictures


def test_bars_are_shares() -> None:
    """Of all values, missing ones too; histograms of other bins are not put side by side."""
    before, after = Histogram([1, 3], [0.5]), Histogram([0, 4], [0.5], missing=4)
    assert bars(before, after) == [("under 0.5", 0.25, 0.0), ("0.5 or more", 0.75, 0.5), ("missing", 0.0, 0.5)]
    assert bars(None, after)[1] == ("0.5 or more", 0.0, 0.5)
    assert bars(before, Histogram([1, 3], [0.6])) == []
    assert bars(before, Histogram([1, 3, 4], [0.5])) == []
    assert bars(None, None) == []
    assert [bar.name for bar in bars(Histogram([1, 8, 1], [0.003467, 0.0034670001]), None)][1] == "0.00347"
    assert bars(Histogram([0, 0], [1.0]), None) == []
    assert picture(Explained("x", "psi", 1.0)) is None


@pytest.mark.parametrize(
    "found", [Histogram([0, 0], [1.0]), Histogram([0], names=["a"]), Histogram([5]), Histogram([])]
)
def test_degenerate_histograms_are_drawn_or_left_out(found: Histogram) -> None:
    """Nothing counted, one bin, none at all."""
    drawn = picture(Explained("x", "psi", 1.0, found, found))
    assert drawn is None or "nan" not in drawn


def test_labels_do_not_lie_on_each_other() -> None:
    """A span goes to the first row that has room, or nowhere."""
    rows = Rows(2)
    assert [rows.place(*span) for span in ((0, 10), (5, 8), (11, 12), (4, 20), (9, 10))] == [0, 1, 0, None, 1]


def test_ticks_are_round_and_few() -> None:
    """Of numbers and of times, down to seconds and up to years."""
    assert ticks(0, 1) == [0, 0.5, 1]
    assert ticks(0.31, 0.82) == [0.4, 0.6, 0.8]
    assert len(ticks(0, 48, 2)) > 1
    for length in (10 * SECOND, HOUR, 3 * DAY, 90 * DAY, 900 * DAY, 20_000 * DAY):
        found = time_ticks(at(7), at(7) + length)
        assert 1 <= len(found) <= 10
        assert all(at(7) <= time <= at(7) + length for time, _ in found)
    assert [text for _, text in time_ticks(at(0), at(0) + DAY, 4)] == ["07 May", "06:00", "12:00", "18:00", "08 May"]


def test_markup_escapes_what_is_none() -> None:
    """Text and attributes are escaped, markup is not, what is None is left out."""
    made = tag("a", "<b>", Markup("<i></i>"), None, href='"x"', class_=None, stroke_width=1.5)
    assert made == '<a href="&quot;x&quot;" stroke-width="1.5">&lt;b&gt;<i></i></a>'
    assert join("&", made).startswith("&amp;<a")


# Words


def test_words() -> None:
    """Times to the minute where they have no seconds, spans in two units, numbers to the digits that tell."""
    assert (moment(at(0)), moment(at(0) + SECOND)) == ("1996-05-07 00:00Z", "1996-05-07 00:00:01Z")
    assert moment(2**63 - 1).startswith("9999")
    assert [lasting(span) for span in (4_000, SECOND, 90 * MINUTE, DAY + MINUTE, 9 * DAY)] == [
        "4 ms", "1 s", "1 h 30 min", "1 d", "9 d",
    ]  # fmt: skip
    assert (roughly(1_812 * SECOND), roughly(30 * HOUR)) == ("30 min", "30 h")
    assert [number(value) for value in (8.123, 0.003467, 2_400.0, 0.0, 1e-9, float("inf"), None)] == [
        "8.12", "0.00347", "2,400", "0", "1e-09", "inf", NONE,
    ]  # fmt: skip
    assert [share(value) for value in (0.0, 1.0, 0.123, 0.0123, 0.996)] == ["0 %", "100 %", "12 %", "1.2 %", "99.6 %"]
    assert (named(["a"]), named(["a", "b"]), named(list("abcde"))) == ("a", "a and b", "a, b, c and 2 more")
