"""Which alert asks for a training: kinds, enough examples, budget and cool-down, by event time alone."""

from typing import get_args

import pytest

from services.runtime.alerts import Alert, Kind
from services.runtime.commands import Hold, Silence
from services.runtime.grammar import BatchRule, Duration
from services.trainer.asking import MENDED, Alerts, asked
from tests.alerted import alert, resolved
from tests.stored import HOUR

RULE = BatchRule(alert_examples=5, alerts_per_day=2, cool_down=Duration("4h"))


def count(since: int, until: int | None) -> int:
    """Count the events of an hour each, from hour 0 to 99."""
    last = 99 * HOUR if until is None else min(until, 99 * HOUR)
    return max(0, last // HOUR - -(-since // HOUR) + 1)


def said(*alerts: Alert) -> Alerts:
    found = Alerts()
    for one in alerts:
        found.fold(one)
    return found


def asks(alerts: Alerts, done: dict[str, int] | None = None, rule: BatchRule = RULE) -> str | None:
    found = asked(rule, alerts, done or {}, 99 * HOUR, count)
    return None if found is None else found.id


@pytest.mark.parametrize("kind", get_args(Kind))
def test_only_what_a_training_can_mend_asks(kind: Kind) -> None:
    """Not what a sender does wrong, nor labels that don't come, nor a quiet day."""
    faults = {"missing", "range", "coverage", "volume"}
    assert (asks(said(alert(kind=kind))) is None) == (kind in faults) == (kind not in MENDED)


@pytest.mark.parametrize("subject", ["served", "batch", "online", "batch@7"])
def test_a_promotion_asks_for_no_training(subject: str) -> None:
    """It changes what is served, and what the champion says; a single version is changed by nobody."""
    assert (asks(said(alert(kind="predictions", subject=subject))) is None) == (subject in ("served", "batch"))
    assert asks(said(alert(kind="loss", subject=subject))) == "loss-1"


def test_the_surest_asks_first() -> None:
    """Critical before warnings, a loss before what only may cost one."""
    features = alert("features-1", kind="features")
    assert asks(said(features, alert())) == "loss-1"
    assert asks(said(features, alert(severity="warning"))) == "features-1"


@pytest.mark.parametrize(("since", "due"), [(95, True), (96, False)])
def test_enough_must_have_come_after_the_change(since: int, *, due: bool) -> None:
    """Labelled examples from `retrain_from` on, that one's too."""
    assert (asks(said(alert(retrain_from=since * HOUR))) is not None) == due


def test_one_training_for_one_change() -> None:
    """Not for an alert that had one, nor for one beside it whose change that training has seen enough of."""
    both = said(alert(), alert("joint-1", kind="joint"))
    assert asks(both, {"loss-1": 14 * HOUR}) is None
    assert asks(both, {"loss-1": 13 * HOUR}) == "joint-1"
    assert asks(both, {"loss-1": 13 * HOUR, "joint-1": 20 * HOUR}) is None


@pytest.mark.parametrize(("hours", "due"), [((40, 70), True), ((75, 75), True), ((76, 80), False), ((80,), True)])
def test_a_day_has_a_budget(hours: tuple[int, ...], *, due: bool) -> None:
    """Of event time, up to the newest event: two trainings within 24 hours are all."""
    before = {f"other-{n}": hour * HOUR for n, hour in enumerate(hours)}
    assert (asks(said(alert(retrain_from=94 * HOUR)), before) is not None) == due


@pytest.mark.parametrize(("hour", "due"), [(95, True), (96, False), (99, False)])
def test_a_training_for_an_alert_cools_down(hour: int, *, due: bool) -> None:
    """Until so much event time has passed."""
    later = said(alert(retrain_from=95 * HOUR))
    assert (asks(later, {"other": hour * HOUR}) is not None) == due


def test_what_is_no_longer_so_asks_for_nothing() -> None:
    """Resolved, silenced, or held; a record that comes again changes nothing."""
    assert asks(said(alert(), resolved(alert()), alert())) is None
    assert asks(said(alert(), alert(number=2, silenced=True), alert(number=1))) is None
    alerts = said(alert())
    for held, expected in ((True, None), (False, "loss-1")):
        alerts.orders.fold(Hold(held, "ann@desk", "a test"))
        alerts.orders.fold(Silence("*", 0, "ann@desk", "a test"))
        assert asks(alerts) == expected


def test_nothing_is_asked_of_an_empty_table() -> None:
    """Nor where the stream has no batch model, or wants none for alerts."""
    assert asked(RULE, said(alert()), {}, None, count) is None
    assert asked(None, said(alert()), {}, 99 * HOUR, count) is None
    assert asks(said(alert()), rule=BatchRule(on_alert=False, alert_examples=5)) is None
