"""The records that an event became, and the times between them; live spans are put where they belong."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from services.replay.online import open_batch
from services.replay.story.facts import Example, Hop, Said, Span
from services.replay.verify import Tell
from services.runtime.records import Position, Record
from services.runtime.transport import History

TRITON = "triton"  # asked by inference, and has spans of its own


def row_of(
    history: History, topic: str, partition: int, offset: int, tell: Tell
) -> tuple[Record, pa.RecordBatch, int] | None:
    """Find an event's row on a topic of batches, in which offsets ascend; None if it is not there."""
    position = Position(topic, partition)
    first, end = history.bounds(position)
    if end <= first:
        return None
    for records in history.read(position):
        for record in records:
            batch = open_batch(record)
            offsets = np.asarray(batch.column("offset"))
            if len(offsets) and offsets[-1] >= offset:
                found = np.flatnonzero(offsets == offset)
                return (record, batch, int(found[0])) if len(found) else None
        tell(position, records[-1].offset + 1, end)
    return None


def hop(name: str, service: str, record: Record, row: int | None = None, after: Hop | None = None) -> Hop:
    """Make the hop of a record that came after another."""
    follows, passed = (None, None) if after is None else (after.name, record.timestamp - after.at)
    return Hop(name, service, record.topic, record.partition, record.offset, record.timestamp, row, follows, passed)


def learned_hops(
    examples: Sequence[Example], said: Sequence[Said], topics: Mapping[str, str], partition: int, before: Hop | None
) -> Iterator[Hop]:
    """Yield those of the labels, and of the examples that they made."""
    newest = before
    for one in said:
        newest = Hop(
            "label", "ingestion", topics["labels"], partition, one.offset, one.at, None, *_after(one.at, before)
        )
        yield newest
    for example in examples:
        after = newest if example.outcome != "timeout" else before
        times = _after(example.at, after)
        yield Hop("example", "labels", topics["examples"], 0, example.offset, example.at, example.row, *times)


def _after(at: int, before: Hop | None) -> tuple[str | None, int | None]:
    return (None, None) if before is None else (before.name, at - before.at)


# Live spans


def placed(hops: Sequence[Hop], spans: Sequence[Span]) -> tuple[list[Hop], list[Span]]:
    """Put each span to the hop whose record it wrote, or whose service it is of; return what belongs to none too."""
    found: dict[int, list[Span]] = {}
    left = []
    for span in sorted(spans, key=lambda span: span.start_ns):
        place = _place(hops, span)
        if place is None:
            left.append(span)
        else:
            found.setdefault(place, []).append(span)
    return [msgspec.structs.replace(one, live=found.get(place, [])) for place, one in enumerate(hops)], left


def _place(hops: Sequence[Hop], span: Span) -> int | None:
    """Return the hop that a span tells of: what it sent, or what its service made of what it names."""
    if span.name.startswith("send "):
        topic = span.name.removeprefix("send ")
        return next((place for place, one in enumerate(hops) if one.topic == topic), None)
    service = "inference" if span.service == TRITON else span.service
    places = [place for place, one in enumerate(hops) if one.service == service]
    named = [place for place in places if span.name.endswith(hops[place].topic.rpartition(".")[2])]
    return next(iter(named or places), None)
