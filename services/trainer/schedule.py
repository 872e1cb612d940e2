"""When a training is due: a matter of the events that have labels by now, not of the clock. Pure."""

from services.runtime.grammar import BatchRule


def is_due(rule: BatchRule | None, rows: int, newest: int | None, last: int | None) -> bool:
    """Return whether a table of so many rows, with this newest event time, is to be trained on.

    `last` is the newest event time that a training has seen, None before the first. Times are µs since 1970.
    """
    if rule is None or rule.train_every is None or newest is None or rows < rule.train_after:
        return False
    return last is None or newest - last >= rule.train_every.us
