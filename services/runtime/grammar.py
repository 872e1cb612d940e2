"""The grammar of `pipeline.toml`: what a feature, a label rule and a model may say, and which vector a stream has.

Each operator is a struct; msgspec checks the file against them, so that a wrong word is named with its place. An
operator says which columns of the feature vector it fills; how it is computed is the business of `services/features`.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
LONGEST_US = 36_525 * UNITS_US["d"]
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d|w)")


class Duration:
    """A length of time such as "90s", "15m", "1h", "2d" or "1w"; `us` is in microseconds."""

    __slots__ = ("text", "us")

    def __init__(self, text: str) -> None:
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        us = round(float(match[1]) * UNITS_US[match[2]]) if match else 0
        if not 0 < us <= LONGEST_US:
            said = 'Expected a length of time such as "90s", "15m", "1h" or "2d"'
            raise ValueError(f"{said}, up to 100 years, got {text!r}")
        self.text = text
        self.us = us

    @property
    def seconds(self) -> float:
        return self.us / 1e6


class _Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    """What all operators share. `default` stands in where there is nothing to say yet: no past, no value."""

    default: float = 0.0

    def columns(self, name: str) -> list[str]:
        return [name]


class _Grouped(_Operator, frozen=True, kw_only=True):
    by: list[str] | None = None  # whose past: the stream's key, unless more fields narrow it


class _Windowed(_Grouped, frozen=True, kw_only=True):
    window: Duration


class _WindowedField(_Windowed, frozen=True, kw_only=True):
    of: str  # a field of the event


class Value(_Operator, frozen=True, kw_only=True, tag="value"):
    """The event's own number; true is 1."""

    of: str


class OneHot(_Operator, frozen=True, kw_only=True, tag="onehot"):
    """One column per value, 1 where the event has it; with `other`, one more for every other value."""

    of: str
    values: Annotated[list[str], msgspec.Meta(min_length=1)]
    other: bool = False

    def columns(self, name: str) -> list[str]:
        return [f"{name}={value}" for value in self.values] + ([f"{name}=other"] if self.other else [])


class Hour(_Operator, frozen=True, tag="hour"):
    """The time of day (UTC), on a circle."""

    def columns(self, name: str) -> list[str]:
        return [f"{name}_sin", f"{name}_cos"]


class Weekday(_Operator, frozen=True, tag="weekday"):
    """The time of week (UTC), on a circle."""

    def columns(self, name: str) -> list[str]:
        return [f"{name}_sin", f"{name}_cos"]


class Lag(_Grouped, frozen=True, kw_only=True, tag="lag"):
    """The number that the group's event `n` before this one had."""

    of: str
    n: Annotated[int, msgspec.Meta(ge=1)] = 1


class SinceLast(_Grouped, frozen=True, tag="since_last"):
    """Seconds since the group's last event."""


class Ewma(_Grouped, frozen=True, kw_only=True, tag="ewma"):
    """The group's mean, an event's weight halving every `half_life` of event time."""

    of: str
    half_life: Duration


class Count(_Windowed, frozen=True, tag="count"):
    """How many events the group had in the window."""


class Rate(_Windowed, frozen=True, tag="rate"):
    """`count` per second of the window."""


class Sum(_WindowedField, frozen=True, tag="sum"):
    """The sum over the window."""


class Mean(_WindowedField, frozen=True, tag="mean"):
    """The mean over the window."""


class Std(_WindowedField, frozen=True, tag="std"):
    """The standard deviation over the window (population)."""


class Min(_WindowedField, frozen=True, tag="min"):
    """The smallest number in the window."""


class Max(_WindowedField, frozen=True, tag="max"):
    """The largest number in the window."""


Windowed = Count | Rate | Sum | Mean | Std | Min | Max
Operator = Value | OneHot | Hour | Weekday | Lag | SinceLast | Ewma | Windowed


Guarantee = Literal["exactly_once", "at_least_once"]


class StreamRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[stream]`: which fields are the key, the event time and the id; `lateness` is how late still counts.

    A record whose time is more than `ahead` past the broker's own is refused: its clock is wrong. So is an event, or
    a label, whose id is among those of the last `dedupe` of its partition; up to twice as many are remembered.
    `groups` bounds what features remember of a partition, all groupings together: when more groups are held, those that
    have gone longest without an event are forgotten, until half as many are left; one that comes back has no past.
    `guarantee` is what a kill costs: nothing, or some records written twice by a service that is a little faster.
    """

    task: Literal["binary"]
    key: str
    time: str
    id: str
    lateness: Duration = msgspec.field(default_factory=lambda: Duration("10m"))
    ahead: Duration = msgspec.field(default_factory=lambda: Duration("1h"))
    dedupe: Annotated[int, msgspec.Meta(ge=1)] = 50_000
    groups: Annotated[int, msgspec.Meta(ge=2)] = 1_000_000
    guarantee: Guarantee = "exactly_once"


class LabelRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[label]`: the field to predict, the label's own time, and what it means when none came within `horizon`.

    Then "drop" makes no example of the event, "negative" one that is labelled false, and "unknown" one without a label,
    from which nothing is learned and which no metric counts.
    With `corrections`, a length of time after the event, late labels and further ones of an id count until then. The
    one with the newest time of its own holds; what was said before is retracted.
    """

    field: str
    time: str
    horizon: Duration
    on_timeout: Literal["drop", "negative", "unknown"] = "drop"
    corrections: Duration | None = None


class OnlineRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[online]`: a River pipeline, step by step, and how often a new version is published.

    With `renew` a model that suddenly loses far more than is usual is begun anew from the examples since then, once
    that is shown to be better.
    """

    model: list[str | dict[str, dict[str, Any]]]
    snapshot_every: Duration = msgspec.field(default_factory=lambda: Duration("1s"))
    renew: bool = True


class BatchRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[batch]`: the network that is trained on a batch of examples, and how.

    An "mlp" reads an event's vector through `depth` residual blocks of `width`; a "gru" reads the last `steps` vectors
    of the event's key first. Of the examples, in order of event time, the last share `calibration` sets the temperature
    and the share `validation` before it says which epoch was best; training ends after `patience` epochs without a
    better one. With "balanced" classes the rarer one weighs as much as the other, and scores stay probabilities.
    With `train_every`, a length of event time, the trainer begins by itself whenever that much is new, from
    `train_after` examples on. With `on_alert` it also begins for an alert that a training can mend, once
    `alert_examples` are of the time after the change: at most `alerts_per_day` times within a day of event time, and
    not within `cool_down` of the last time.
    """

    kind: Literal["mlp", "gru"] = "mlp"
    width: Annotated[int, msgspec.Meta(ge=1, le=8192)] = 128
    depth: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    steps: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 8
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1
    epochs: Annotated[int, msgspec.Meta(ge=1)] = 20
    batch_size: Annotated[int, msgspec.Meta(ge=1)] = 1024
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 2e-3
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 1e-2
    patience: Annotated[int, msgspec.Meta(ge=1)] = 4
    validation: Annotated[float, msgspec.Meta(gt=0, le=0.4)] = 0.1
    calibration: Annotated[float, msgspec.Meta(gt=0, le=0.4)] = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**20)] = 0
    train_every: Duration | None = None
    train_after: Annotated[int, msgspec.Meta(ge=1)] = 5000
    on_alert: bool = True
    alert_examples: Annotated[int, msgspec.Meta(ge=1)] = 500
    alerts_per_day: Annotated[int, msgspec.Meta(ge=0)] = 4
    cool_down: Duration = msgspec.field(default_factory=lambda: Duration("3h"))


class RolloutRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[rollout]`: when a version of the batch model is served, to whom, and when no longer. Counts are of examples.

    What is compared is what would be served: each version's mix with the online model, and that alone. A challenger is
    a canary, for the share `canary` of the keys, after `shadow_examples`; it is champion when it was
    one for `canary_examples` and is shown to be better, and retired when it is shown to be worse, overall or for a
    value of a one-hot feature in `slices`, or not shown better within `patience`. `alpha` is the chance of each such
    error; a champion that is no worse than its predecessor, and no worse than guessing by how frequent the label is,
    is rolled back every `apart` examples, on average, at most.
    A model that answers after `latency` is not waited for. The weights in the mix have a `floor`, what they go by fades
    within `window`, and they follow it at `rate`: up to 1, where labels come at once; the later, the lower. New ones
    are published `weigh_every` so often.
    """

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    apart: Annotated[float, msgspec.Meta(gt=1)] = 1e6
    shadow_examples: Annotated[int, msgspec.Meta(ge=1)] = 500
    canary: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    canary_examples: Annotated[int, msgspec.Meta(ge=1)] = 500
    patience: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    slices: list[str] = []
    latency: Duration = msgspec.field(default_factory=lambda: Duration("0.5s"))
    floor: Annotated[float, msgspec.Meta(ge=0, lt=0.5)] = 0.001
    window: Annotated[float, msgspec.Meta(gt=1)] = 2000
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.02
    weigh_every: Duration = msgspec.field(default_factory=lambda: Duration("1s"))


class DriftRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[drift]`: when the stream counts as changed. Counts are of events.

    While nothing changes, it takes at least `false_alarms` events on average until an alert, all features, statistics
    and spans of time together. What a stream was in its first `reference` events is what it is held against, and what
    it was later while nothing changed. Where it stays changed for as many, that is what it is from then on. For each
    value of a one-hot feature in `slices` it is said whether a change is its own.
    """

    false_alarms: Annotated[float, msgspec.Meta(ge=1000)] = 1e5
    reference: Annotated[int, msgspec.Meta(ge=2000, le=100_000)] = 5000
    slices: list[str] = []


class ReplayRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[replay]`: how many seconds of event time the demo plays in a second."""

    speed: float = 1.0


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole `pipeline.toml`. `features` are in the order of the vector."""

    stream: StreamRule
    features: dict[str, Operator]
    label: LabelRule
    online: OnlineRule
    batch: BatchRule | None = None
    rollout: RolloutRule = msgspec.field(default_factory=RolloutRule)
    drift: DriftRule = msgspec.field(default_factory=DriftRule)
    replay: ReplayRule = ReplayRule()
