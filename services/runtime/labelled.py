"""What the labels service tells of itself: how mature its labels are, and how good what was served turned out to be."""

from collections.abc import Mapping

import msgspec


class Hour(msgspec.Struct, frozen=True):
    """Of an hour of events, from `start_s` since 1970 on: how many were predicted, and how many have their label."""

    start_s: int
    predicted: int
    labelled: int
    median_wait_s: float | None


class Labelled(msgspec.Struct, frozen=True):
    """`totals` by outcome; `log_loss` (nats) and `accuracy` of the scores served, over the `n` rows that have a label.

    `hours` are the newest ones, newest first.
    """

    totals: Mapping[str, int]
    n: int
    log_loss: float | None
    accuracy: float | None
    hours: tuple[Hour, ...]
