"""What came of an event after its prediction: its label, the example, who learned from it, who decided by it."""

from collections.abc import Callable, Sequence

import msgspec

from services.replay.story.deciding import Decisions
from services.replay.story.examples import Counted, batches
from services.replay.story.facts import Decided, Hop, Label, Learned, Refusal, Training
from services.replay.story.hops import learned_hops
from services.replay.story.labelling import Heard, label
from services.replay.story.learning import learned
from services.replay.verify import Tell
from services.runtime.records import Position, Record
from services.runtime.stream import Stream
from services.runtime.transport import History


class Future(msgspec.Struct, frozen=True):
    """All that came of it, and the records that it became."""

    hops: list[Hop]
    label: Label
    learned: Learned
    decided: list[Decided]


def future(
    stream: Stream,
    history: History,
    event: tuple[int, int, int],
    heard: Heard,
    refused: list[Refusal],
    before: Hop | None,
    asked: Sequence[str],
    trainings: Sequence[Training],
    table: Callable[[int], int | None],
    tell: Tell,
) -> Future:
    """Tell it of the event at (partition, offset) of this time (µs).

    `before` is the hop of what the labels service had read, `asked` are the versions of the batch model that scored it.
    """
    partition, offset, time = event
    counted, decisions = Counted(partition, offset), Decisions(stream, partition, offset) if asked else None
    for record, batch in batches(history, stream, tell):
        counted.fold(record, batch)
        if decisions is not None:
            decisions.fold(record, batch)
    models = _all(history, stream.topic("models"))
    told, live = learned(stream, time, counted.found, models, trainings, table)
    said = [one for one, _ in heard.said]
    topics = {kind: stream.topic(kind) for kind in ("labels", "examples")}
    hops = [*learned_hops(counted.found, said, topics, partition, before)]
    if live is not None and hops:
        passed = live.timestamp - hops[-1].at
        where = live.topic, live.partition, live.offset, live.timestamp
        hops.append(Hop(told.published or "", "learner", *where, None, hops[-1].name, passed))
    at = None if before is None else before.at
    found = label(stream, time, heard, counted.found, refused, at)
    return Future(hops, found, told, decisions.written(models) if decisions is not None else [])


def _all(history: History, topic: str) -> list[Record]:
    """Return the records of a topic of one partition that is small."""
    return [record for records in history.read(Position(topic, 0)) for record in records]
