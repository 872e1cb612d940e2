"""The live picture on terminals of any width: what is down is named, and what is narrow loses what matters least."""

import msgspec
import pytest
from rich.console import Console

from infra.commands.status_shown import Shown
from infra.local.picture import Picture, Service, Topic
from services.runtime.alerts import Alert, Place
from services.runtime.chronicle import Chronicle
from services.runtime.health import Report
from services.runtime.labelled import Hour, Labelled
from services.runtime.models import Moved, Published, Registered
from services.runtime.records import Record
from services.runtime.stream import TOPICS
from tests.duels import MODELS


def chronicle() -> Chronicle:
    made = Chronicle("made:0")
    said = [Registered("batch", 7, "made:0", 900, 0.3, 0.5, "schedule"), Published("online", 41, "made:0", 41, 0.3)]
    for number, event in enumerate([*said, Moved("batch", 7, "champion", "ann@desk", "I [bold]want[/] it")]):
        made.fold(Record(MODELS, 0, number, None, msgspec.json.encode(event), 1000 * number))
    return made


def picture(broker: str = "") -> Picture:
    labelled = Labelled({"label": 12}, 12, 0.29876, 0.91666, (Hour(1357387200, 30, 12, 7321.0),))
    triton = "Triton at 127.0.0.1:8001: no answer within 10 s"
    services = [
        Service("ingestion", Report("ingestion", "ready"), None, 812.4, {}, None),
        Service("features", Report("features", "ready", None, None, (0, 1)), 812.0, 3.25, {"events": 0}, None),
        Service("inference", Report("inference", "waiting", triton, 12.3, (0, 1)), 0.0, 0.0, {"features": 1300}, 75.04),
        Service("labels", Report("labels", "ready", labelled=labelled), 4.0, 2.0, {"scored": 3, "labels": 4}, 0.5),
        Service("learner", None, None, None, {}, None),
    ]
    where = Place(1357387200_000000, "scored", 0, 7)
    alert = Alert("x:1", 1, "raised", "features", "carrier", "critical", where, where, "psi", 1.5, "it changed")
    topics = [Topic(kind, None if broker else 10, None if broker else 1.5) for kind in TOPICS]
    return Picture(services, topics, chronicle(), [] if broker else [alert], broker, known=not broker)


def lines(seen: Picture, width: int) -> list[str]:
    console = Console(width=width, highlight=False, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(Shown(seen, "made, 12:00:00"))
    return capture.get().splitlines()


def test_what_is_seen() -> None:
    """States, rates, lags in records and seconds, topics, who is live with which weight, alerts, labels."""
    text = " ".join(" ".join(lines(picture(), 160)).split())
    assert "features ready 0,1 812 3.2 0 - " in text
    assert "inference waiting 0,1 0 0 features 1,300 75.0 waits for Triton" in text
    assert "labels ready - 4.0 2.0 scored 3, labels 4 0.5" in text
    assert "learner silent - - - - - no answer to its probe" in text
    assert text.count(" 1.5 10 ") == len(TOPICS)
    assert "models online@41 live, weight 0.500" in text
    assert "batch@7 champion, weight 0.500, by ann@desk: I [bold]want[/] it" in text
    assert "alert critical since 2013-01-05 12:00" in text
    assert "of the 30 predictions of 2013-01-05 12:00, 40% have their label" in text


@pytest.mark.parametrize("width", [40, 50, 60, 80, 100, 200])
def test_it_fits_any_width(width: int) -> None:
    """No line is longer than the terminal; every service, topic and model is there."""
    seen = lines(picture(), width)
    assert max(map(len, seen)) <= width
    text = "\n".join(seen)
    for name in ("ingestion", "features", "inference", "labels", "learner", "online@41", "batch@7"):
        assert name in text
    for kind in TOPICS:
        assert kind in text
    assert "1,300" in text


def test_a_broker_that_is_away_is_named() -> None:
    """What it alone knows is unknown then, not nothing; the services are told by their own word."""
    text = "\n".join(lines(picture("the broker at here:1 gives no answer: timed out"), 90))
    assert "the broker at here:1 gives no answer: timed out" in text
    assert "none stands" not in text
    assert "online@" not in text
    assert "waits for Triton" in text
