"""What the labels service tells of labels: how many events have theirs, how long that took, what still waits."""

from collections.abc import Callable

from services.runtime.labelled import Hour, Labelled
from services.runtime.metrics import Found, Metrics


def tell(metrics: Metrics, labelled: Callable[[], Labelled | None], waiting: Callable[[], tuple[int, int]]) -> None:
    """Have it told: `labelled` is what the health reports, `waiting` how many rows and labels wait for each other."""
    told = metrics.told
    name, said = (
        "thalweg_label_coverage_ratio",
        "Share with a label of the newest hours' predictions.",
    )
    told(name, said, lambda: _of(labelled(), lambda found: coverage(found.hours)))
    name, said = "thalweg_label_wait_seconds", "Median wait of a label in those hours, by event time."
    told(name, said, lambda: _of(labelled(), lambda found: wait(found.hours)))
    name, said = "thalweg_labelled_events", "Events whose label is known and holds."
    told(name, said, lambda: _of(labelled(), lambda found: found.n))
    name, said = "thalweg_served_log_loss_nats", "Mean log loss of what was served for all of them."
    told(name, said, lambda: _of(labelled(), lambda found: found.log_loss))
    name, said = "thalweg_served_accuracy_ratio", "Accuracy of what was served for all of them."
    told(name, said, lambda: _of(labelled(), lambda found: found.accuracy))
    name, said = "thalweg_label_outcomes", "Rows and labels by what became of them; it goes back with a restore."
    told(name, said, lambda: _outcomes(labelled()), ("outcome",))
    name, said = "thalweg_label_waiting_rows", "Rows that wait for a label, and labels that wait for a row."
    told(name, said, lambda: dict(zip((("scored",), ("labels",)), map(float, waiting()), strict=True)), ("side",))


def coverage(hours: tuple[Hour, ...]) -> float | None:
    """Return the share of these hours' predictions that have their label."""
    predicted = sum(hour.predicted for hour in hours)
    return sum(hour.labelled for hour in hours) / predicted if predicted else None


def wait(hours: tuple[Hour, ...]) -> float | None:
    """Return the mean of the hours' medians, weighed by their labels, in seconds."""
    known = [(hour.labelled, hour.median_wait_s) for hour in hours if hour.median_wait_s is not None]
    labels = sum(count for count, _ in known)
    return sum(count * median for count, median in known) / labels if labels else None


def _of(found: Labelled | None, read: Callable[[Labelled], float | None]) -> Found:
    value = None if found is None else read(found)
    return {} if value is None else {(): float(value)}


def _outcomes(found: Labelled | None) -> Found:
    return {} if found is None else {(outcome,): float(count) for outcome, count in found.totals.items()}
