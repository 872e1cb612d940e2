"""The records of `alerts`: what has changed, since when, how strongly, what explains it, and what was done about it.

An alert is raised once, updated while it lasts, and resolved. Its records are numbered from 0, and are keyed so that a
compacted topic keeps them all: who reads them twice counts `(id, number)` once.
"""

from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal[
    "features", "joint", "predictions", "loss", "calibration", "estimate", "missing", "range", "coverage", "volume"
]
Severity: TypeAlias = Literal["warning", "critical"]


class Place(msgspec.Struct, frozen=True):
    """A place in the log: event time in µs since 1970, and the offset in a partition of `topic` (`scored`, …)."""

    time: int
    topic: str
    partition: int
    offset: int


class Histogram(msgspec.Struct, frozen=True):
    """How often a value was in each bin. Bin i is [edges[i - 1], edges[i]), the first and last are open; or by name.

    There is one count more than edges, or one for each name; `missing` are beside them.
    """

    counts: list[int]
    edges: list[float] = []
    names: list[str] = []
    missing: int = 0


class Explained(msgspec.Struct, frozen=True):
    """A feature or slice that explains an alert: by which statistic, how strong, and how it was before and after."""

    name: str
    statistic: str
    value: float
    before: Histogram | None = None
    after: Histogram | None = None


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record of an alert.

    `since` is where the change began, as far as is known, `at` where it was seen or, later, has come to. `strength` is
    of `statistic`. `features` and `slices` are ranked. `lost` is by how much the served log loss is higher than before,
    in nats an event, where labels tell. `retrain_from` is the event time (µs) from which on examples are of the new
    world. `done` is what was done about it, oldest first. A silenced alert is recorded and not delivered.
    """

    id: str
    number: int
    event: Literal["raised", "updated", "resolved"]
    kind: Kind
    subject: str  # what is watched: a feature, a model such as "online" or "batch@7", or "stream"
    severity: Severity
    since: Place
    at: Place
    statistic: str
    strength: float
    reason: str  # a sentence for the operator
    slice: str = ""  # "carrier=DL", where it is of one slice only
    features: list[Explained] = []
    slices: list[Explained] = []
    lost: float | None = None
    retrain_from: int | None = None
    done: list[str] = []
    silenced: bool = False

    @property
    def key(self) -> bytes:
        return f"{self.id}/{self.number}".encode()


_decoder: msgspec.json.Decoder[Alert] = msgspec.json.Decoder(Alert)


def decode_alert(value: bytes) -> Alert:
    return _decoder.decode(value)


def standing(alerts: list[Alert]) -> dict[str, Alert]:
    """Return the newest record of each alert that is not resolved, by id, in the order in which they were raised."""
    newest: dict[str, Alert] = {}
    for alert in alerts:
        if alert.id not in newest or alert.number > newest[alert.id].number:
            newest[alert.id] = alert
    return {name: alert for name, alert in newest.items() if alert.event != "resolved"}
