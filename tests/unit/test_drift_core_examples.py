"""The drift core over summaries of `examples`: what it says of labels that turn, as alerts."""

from services.drift.core import DriftCore, ExampleReducer
from services.runtime.alerts import Alert
from tests.judged import STREAM, drawn

CHANGE, OVER, COUNT = 11_000, 12_500, 17_000


def test_labels_that_turn_and_turn_back_are_an_alert_that_ends() -> None:
    """A turn of labels raises a loss alert of what is served, once, with where to retrain from, and it is resolved.

    Each summary comes twice, as after a crash, and counts once.
    """
    record = drawn(1, COUNT, flipped=slice(CHANGE, OVER)).record(slice(None), 0)
    core, alerts = DriftCore(STREAM), list[Alert]()
    for summary in ExampleReducer(STREAM, 0).fold(record):
        alerts += core.fold(summary)
        assert core.fold(summary) == []
    served = [alert for alert in alerts if (alert.kind, alert.subject, alert.slice) == ("loss", "served", "")]
    assert [alert.event for alert in served if alert.event != "updated"] == ["raised", "resolved"]
    assert len({alert.id for alert in served}) == 1
    assert served[0].retrain_from == served[0].since.time
    assert (served[0].lost or 0) > 0.5
    assert not [alert for alert in core.view()["alerts"] if alert["kind"] == "loss"]  # type: ignore[attr-defined]
