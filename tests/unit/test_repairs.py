"""What a run's log tells of its alerts, and labels that are turned round for it to have one."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import pytest

from infra.local import repairs
from infra.local.curves import Curve, page
from infra.local.repairs import Repairs, Told, line
from infra.local.replayer import Timed, turned
from services.runtime.errors import Retry
from services.runtime.models import BATCH, Moved
from services.runtime.records import Record
from services.runtime.settings import Settings
from tests.alerted import alert, resolved
from tests.duels import registered
from tests.lessons import STREAM
from tests.stored import HOUR


class Tailing:
    """A topic's records; some may not come at once."""

    held: ClassVar[dict[str, list[object]]] = {}

    def __init__(self, _: Settings, topic: str, *, from_beginning: bool) -> None:
        assert from_beginning
        self._topic = topic

    def poll(self, _limit: int, _timeout: float) -> list[Record]:
        events, self.held[self._topic] = self.held.get(self._topic, []), []
        if "away" in events:
            raise Retry("away")
        return [Record(self._topic, 0, n, None, msgspec.json.encode(event)) for n, event in enumerate(events)]

    def close(self) -> None:
        pass


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Repairs:
    monkeypatch.setattr(repairs, "Tail", Tailing)
    monkeypatch.setattr(Tailing, "held", {})
    return Repairs(Settings(), STREAM)


def say(kind: str, *events: object) -> None:
    Tailing.held[f"made.{kind}"] = list(events)


@pytest.mark.parametrize("models_first", [True, False])
def test_what_became_of_an_alert_is_told(told: Repairs, *, models_first: bool) -> None:
    """Its version and that one's states, in whichever order the topics come; what is for no alert is left out."""
    mine = registered(2, by="alert:loss-1")
    events: Sequence[object] = [registered(1), Moved(BATCH, 1, "shadow", "a", "b"), mine]
    raised = alert(lost=0.5)
    for kind, said in sorted({"alerts": [raised], "models": events}.items(), reverse=models_first):
        say(kind, *said)
        told.read()
    say("models", Moved(BATCH, 2, "shadow", "rollout", "its turn"), Moved(BATCH, 2, "canary", "rollout", "so far"))
    assert Told(told)() == "  alert loss-1, batch@2 canary"
    [found] = told.found.values()
    assert (found.versions, found.resolved) == ({"batch@2": ["registered", "shadow", "canary"]}, None)
    assert (found.lost, found.since) == (0.5, 10 * HOUR)
    assert line(found) == "alert loss-1: it is worse; batch@2 registered → shadow → canary; stands"
    say("alerts", resolved(raised))
    assert Told(told)() == "  alert loss-1, batch@2 canary, resolved"
    assert line(found).endswith("; resolved")


def test_nothing_is_told_of_nothing(told: Repairs) -> None:
    """Before the first alert, and while a topic can't be read."""
    assert Told(told)() == ""
    say("alerts", "away")
    assert Told(told)() == ""
    say("alerts", alert())
    assert Told(told)() == "  alert loss-1"
    assert "nothing was trained for it; stands" in line(told.found["loss-1"])


def test_labels_of_later_events_are_turned_round() -> None:
    """Of all but the first, whenever their labels come; nothing else is changed."""
    given: list[Timed] = [(float(n), "event", {"id": f"e{n}"}) for n in range(4)]
    given[2:2] = [(1.5, "label", {"id": "e0", "late": True})]
    given += [(5.0 + n, "label", {"id": f"e{n}", "late": n == 2}) for n in (3, 1, 2)]
    found = list(turned(iter(given), STREAM, 2))
    labels = {record["id"]: record["late"] for _, kind, record in found if kind == "label"}
    assert labels == {"e0": True, "e1": False, "e2": False, "e3": True}
    assert [(when, kind, record["id"]) for when, kind, record in found] == [(w, k, r["id"]) for w, k, r in given]


def test_curves_make_a_page_of_their_own() -> None:
    """A line of as many points as windows for each run; names can't break the page."""
    made = page({"a<b": [Curve(name, [10, 20], [0.5, 0.25]) for name in ("x", "y", "z")]}, {"a<b": 12})
    assert made.count("<polyline") == 3
    assert "a&lt;b" in made
    assert "a<b" not in made
    assert "src=" not in made
