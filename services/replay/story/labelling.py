"""What became of the event's label: known, waited for, or given up; derived from what stands on `labels`."""

from collections.abc import Container, Sequence

import msgspec

from services.replay.story.facts import Example, Label, LabelState, Refusal, Said
from services.replay.verify import Tell
from services.runtime.admission import Admission
from services.runtime.records import Position, Record
from services.runtime.stream import Stream
from services.runtime.transport import History

SERVICE = "labels"


class Heard(msgspec.Struct):
    """The labels of one event in its partition, each with the labels' clock when it came; and that clock at the end."""

    said: list[tuple[Said, int]]
    clock: int | None


def heard(stream: Stream, history: History, partition: int, name: str, refused: Container[int], tell: Tell) -> Heard:
    """Fold the partition of `labels`. The labels' clock is the newest time of all that were accepted."""
    position, admission = Position(stream.topic("labels"), partition), Admission(stream, SERVICE, "label")
    _, end = history.bounds(position)
    found = Heard([], None)
    for records in history.read(position):
        _fold(stream, admission, [one for one in records if one.offset not in refused], name, found)
        tell(position, records[-1].offset + 1, end)
    return found


def _fold(stream: Stream, admission: Admission, records: Sequence[Record], name: str, found: Heard) -> None:
    decoded, _ = admission.read(records)
    rule = stream.pipeline.label
    ids, values = decoded.column(stream.pipeline.stream.id), decoded.column(rule.field)
    for place, time, said, value in zip(decoded.places, decoded.times[rule.time].tolist(), ids, values, strict=True):
        found.clock = time if found.clock is None else max(found.clock, time)
        if said == name:
            record = records[place]
            found.said.append((Said(record.offset, record.timestamp, time, float(value)), found.clock))


def label(
    stream: Stream, event_time: int, found: Heard, examples: Sequence[Example], refused: list[Refusal], at: int | None
) -> Label:
    """Say what became of it; `at` is when the prediction was written (ms)."""
    rule = stream.pipeline.label
    deadline = event_time + rule.horizon.us
    known = next((one for one in reversed(examples) if one.outcome != "timeout"), None)
    record = next((said for said, _ in found.said if known is not None and said.time == known.label_time), None)
    read_after = None if record is None or at is None else record.at - at
    return Label(
        _state(stream, event_time, found, known, examples),
        None if known is None else known.label,
        None if known is None else known.label_time,
        None if known is None else (known.label_time - event_time) / 1e6,
        read_after,
        deadline,
        found.clock,
        rule.on_timeout,
        [said for said, _ in found.said],
        list(examples),
        refused,
    )


def _state(
    stream: Stream, event_time: int, found: Heard, known: Example | None, examples: Sequence[Example]
) -> LabelState:
    rule = stream.pipeline.label
    patience = rule.horizon if rule.corrections is None else rule.corrections
    if known is not None:
        return "known"
    if found.said and all(clock > event_time + patience.us for _, clock in found.said):
        return "came too late"
    over = found.clock is not None and found.clock > event_time + rule.horizon.us
    return "never came" if not found.said and (over or examples) else "waiting"
