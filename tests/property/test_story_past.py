"""Why a feature has its value: the events that are named made it, whatever the features and the events."""

from collections.abc import Callable
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.features import engine
from services.features.core import FeaturesCore
from services.features.filling import LARGEST
from services.replay.online import open_batch, rows_of
from services.replay.story.memories import Made, Seen, number
from services.replay.story.past import Past, said_again
from services.runtime.codec import JsonCodec
from services.runtime.grammar import Count, Ewma, Lag, Max, Mean, Min, Operator, Rate, SinceLast, Std, Sum
from services.runtime.records import Record
from services.runtime.stream import Stream
from tests.property.test_features_fold import EVENTS, STREAM, flights, logs, recorded


def accepted(stream: Stream, log: list[Record]) -> list[tuple[Seen, bytes]]:
    """Return the events that have a row of features, with their vectors."""
    outgoing = FeaturesCore(stream, 0).fold(log)
    rows = [
        row
        for out in outgoing
        if out.topic == stream.topic("features")
        for row in rows_of(open_batch(Record(out.topic, 0, 0, None, out.value)))
    ]
    decoded = JsonCodec("event", stream.event).decode([log[row.offset].value for row in rows])
    return [
        (Seen(row.offset, row.event_id, row.time, fields), row.vector)
        for row, fields in zip(rows, decoded.rows, strict=True)
    ]


def columns(stream: Stream, name: str) -> slice:
    widths = [len(operator.columns(one)) for one, operator in stream.pipeline.features.items()]
    place = [*stream.pipeline.features].index(name)
    return slice(sum(widths[:place]), sum(widths[: place + 1]))


@given(STREAM, logs(), st.sampled_from([1, 3, 7, 4096]), st.integers(1, 3))
@settings(deadline=None, max_examples=300)
def test_the_events_that_are_named_make_the_value(
    stream: Stream, log: list[Record], look_every: int, last: int
) -> None:
    """Given these events alone the engine writes the very bits that it wrote with the whole log; fewer would not do."""
    with mock.patch.object(engine, "LOOK_EVERY", look_every):
        events = accepted(stream, log)
        if len(events) >= last:
            check(stream, events, len(events) - last)


@pytest.mark.parametrize("order", ["departed_at", "scheduled_at"])
def test_so_it_is_of_real_events(order: str) -> None:
    """Of flights in order and out of order, late ones among them, and where groups are forgotten."""
    stream = flights()
    few = msgspec.structs.replace(stream.pipeline, stream=msgspec.structs.replace(stream.pipeline.stream, groups=150))
    small = msgspec.structs.replace(stream, pipeline=few)
    for one, look_every in ((stream, 4096), (small, 64)):
        with mock.patch.object(engine, "LOOK_EVERY", look_every):
            events = accepted(one, recorded(order))
            forgotten = [check(one, events, place) for place in range(11, EVENTS, 157)]
        assert any(forgotten) is (one is small)


def check(stream: Stream, events: list[tuple[Seen, bytes]], place: int) -> bool:
    """Check the event in this place; return whether some of its past was forgotten."""
    event, vector = events[place]
    past = Past(stream, event.row)
    past.fold(seen for seen, _ in events[:place])
    for name, made in past.made(event.time).items():
        operator, wrote = stream.pipeline.features[name], np.frombuffer(vector, np.float32)[columns(stream, name)]
        assert said_again(stream, name, made.given, event).tobytes() == wrote.tobytes(), name
        said = plainly(operator, made, event)
        expected = operator.default if said is None else min(max(said, -LARGEST), LARGEST)
        largest = max([1.0, *map(abs, numbers(operator, made))])
        assert float(wrote[0]) == pytest.approx(expected, rel=1e-5, abs=1e-5 * largest), name
    return bool(past.forgotten)


def numbers(operator: Operator, made: Made) -> list[float]:
    of = getattr(operator, "of", None)
    found = [number(seen.row, of) for seen in made.counted] if of else []
    return [x for x in found if x is not None]


PLAIN: dict[type, Callable[[list[float]], float]] = {
    Lag: lambda found: found[0],
    Sum: sum,
    Mean: lambda found: float(np.mean(found)),
    Std: lambda found: float(np.std(found)),
    Min: min,
    Max: max,
}


def plainly(operator: Operator, made: Made, event: Seen) -> float | None:
    """Compute a feature from the events that counted, by its definition; None where the default stands for nothing."""
    found = numbers(operator, made)
    if isinstance(operator, Count | Rate):
        return made.total / (operator.window.seconds if isinstance(operator, Rate) else 1)
    if isinstance(operator, SinceLast):
        return max(event.time - made.counted[0].time, 0) / 1e6 if made.total else None
    if isinstance(operator, Ewma):
        return float(np.average(found, weights=made.weights)) if found else None
    return PLAIN[type(operator)](found) if found else None
