"""What a story consists of. Times are milliseconds since 1970 where they are the broker's, microseconds of events."""

from typing import Any, Literal, TypeAlias

import msgspec

from services.runtime.models import State

Outcome: TypeAlias = Literal["predicted", "waiting", "refused"]
LabelState: TypeAlias = Literal["known", "waiting", "never came", "came too late"]


class Span(msgspec.Struct, frozen=True):
    """A span that was traced live, as the console tells it."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    start_ns: int
    end_ns: int
    kind: str | int = ""
    status: Any = None
    attributes: dict[str, Any] = {}


class Hop(msgspec.Struct, frozen=True):
    """A record that the event became or was part of: `row` is its row there. `service` wrote it.

    `at` is the broker's time, `after_ms` how long after the hop named `follows`. `live` are spans of a trace; where
    there are none, all this was derived from the log.
    """

    name: str
    service: str
    topic: str
    partition: int
    offset: int
    at: int
    row: int | None = None
    follows: str | None = None
    after_ms: int | None = None
    live: list[Span] = []


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that counted for a feature: its place on the same partition, its own time, its number and its weight."""

    offset: int
    event_id: str
    time: int
    value: float | None = None
    weight: float | None = None


class Why(msgspec.Struct, frozen=True):
    """What a feature was made of: by which operator, of what, of whose past.

    `count` events counted, those of them in `causes` that are known. A window begins at `start`: it is made of panes,
    the oldest of which counts whole. `proven`: the engine says the same of these events alone, bit for bit; None where
    not all of them are known. `forgotten` is the offset up to which the group's past was forgotten.
    """

    op: str
    of: str | None
    group: dict[str, Any]
    count: int
    causes: list[Cause]
    start: int | None
    proven: bool | None
    forgotten: int | None = None
    window: str | None = None
    said: str = ""


class Feature(msgspec.Struct, frozen=True):
    """A feature of the event: the columns that were written, and why."""

    name: str
    columns: dict[str, float]
    why: Why | None


class Event(msgspec.Struct, frozen=True):
    """The event as it was sent. `behind`: it came so late (µs behind the newest before it) that no window counts it."""

    value: Any
    headers: dict[str, str]
    behind: int | None = None


class Refusal(msgspec.Struct, frozen=True):
    """A record that was refused: why, by whom, where the original and the letter stand, and if it was sent again.

    `event_id` is what it says to be, where that can be read.
    """

    reason: str
    message: str
    service: str
    place: str
    letter: str
    at: int
    replayed: bool
    event_id: str | None


class Scored(msgspec.Struct, frozen=True):
    """What a version said. `again` is its score made again; `agrees` to 1e-6; `why_not` if it can't be.

    `beside` is its weight in a mix with the online model of its own, were it served.
    """

    version: str
    score: float
    weight: float
    again: float | None
    agrees: bool | None
    why_not: str | None = None
    state: State | None = None
    beside: float | None = None


class Predicted(msgspec.Struct, frozen=True):
    """What was served: the weighted sum of what the versions said. `agrees`: so it comes out again, to 1e-6."""

    served: float
    again: float | None
    agrees: bool | None
    degraded: bool
    feature_set: str
    scores: list[Scored]


class Example(msgspec.Struct, frozen=True):
    """A row of `examples`: the `number`-th with a label, from 1 on, is what makes `online@number` of the one before."""

    offset: int
    row: int
    number: int | None
    at: int
    outcome: str
    label: float | None
    label_time: int
    retracts: float | None
    states: dict[str, State] = {}


class Said(msgspec.Struct, frozen=True):
    """A label of this event on `labels`."""

    offset: int
    at: int
    time: int
    value: float


class Label(msgspec.Struct, frozen=True):
    """What is known of the label. `waited_s` is from the event's time to the label's, `read_after_ms` on the log.

    Without one by `deadline` (event time) `on_timeout` says what that means; `clock` is how far the labels are.
    """

    state: LabelState
    value: float | None
    time: int | None
    waited_s: float | None
    read_after_ms: int | None
    deadline: int
    clock: int | None
    on_timeout: str
    said: list[Said]
    examples: list[Example]
    refused: list[Refusal] = []


class Training(msgspec.Struct, frozen=True):
    """A version of the batch model: the version of the table it was trained on, and how far that had read `examples`.

    `reached` is the first offset that it had not, None where that can't be known here. With `since` (event time) it was
    trained for a change, on a `window` of the examples. `table` is the first version of the table that has the example.
    """

    version: str
    table_version: int
    reached: int | None
    window: str = "all"
    since: int | None = None
    by: str = ""


class Learned(msgspec.Struct, frozen=True):
    """Who learned from the event: the first version of the online model that did, and the first that went live.

    `published` may be newer than that: of a compacted topic some are gone. `trained` are the versions of the batch
    model whose training had it, `unknown` those of which that can't be told here; `table` is the first version of the
    Delta table that has it.
    """

    version: str | None
    published: str | None
    published_at: int | None
    table: int | None
    trained: list[Training]
    unknown: list[str] = []


class Decided(msgspec.Struct, frozen=True):
    """A decision of rollout, in whose evidence this example was one of so many; `at` on `models` it was written."""

    version: str
    state: State
    reason: str
    offset: int
    at: int
    examples: int
    rival: str


class Story(msgspec.Struct, frozen=True):
    """All of it. `notes` say what could not be derived, and why; `spans` are live ones that belong to no hop."""

    event_id: str
    stream: str
    outcome: Outcome
    place: str
    key: str | None
    event_time: int | None
    hops: list[Hop]
    event: Event | None
    refused: list[Refusal]
    features: list[Feature] = []
    features_agree: bool | None = None
    prediction: Predicted | None = None
    label: Label | None = None
    learned: Learned | None = None
    decided: list[Decided] = []
    trace_id: str | None = None
    spans: list[Span] = []
    notes: list[str] = []
