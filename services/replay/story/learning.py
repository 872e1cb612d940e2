"""Who learned from the event: the online model, version by version, and the batch model by its trainings."""

from collections.abc import Callable, Sequence

from services.replay.story.facts import Example, Learned, Training
from services.runtime.models import BATCH, ONLINE, Published, Registered, decode_event
from services.runtime.records import Record
from services.runtime.stream import Stream


def learned(
    stream: Stream,
    event_time: int,
    examples: Sequence[Example],
    models: Sequence[Record],
    trainings: Sequence[Training],
    table: Callable[[int], int | None],
) -> tuple[Learned, Record | None]:
    """Say who learned from it, and return the record by which that went live first.

    `trainings` are those of which it is known here what they read; `table` says of an offset of `examples` which
    version of the Delta table was the first to have it.
    """
    number = min((one.number for one in examples if one.number is not None), default=None)
    live = None if number is None else _first_live(stream, models, number)
    published = None if live is None else decode_event(live.value)
    trained, unknown = [], []
    for version in _registered(stream, models):
        told = next((one for one in trainings if one.version == version), None)
        if told is None or told.reached is None:
            unknown.append(version)
        elif trained_on(told, event_time, examples):
            trained.append(told)
    return Learned(
        None if number is None else f"{ONLINE}@{number}",
        f"{ONLINE}@{published.version}" if isinstance(published, Published) else None,
        None if live is None else live.timestamp,
        table(examples[0].offset) if examples else None,
        trained,
        unknown if examples else [],
    ), live


def trained_on(training: Training, event_time: int, examples: Sequence[Example]) -> bool:
    """Whether an event was among what a training read: what was said of it last by then has to be a label."""
    known = [one for one in examples if training.reached is not None and one.offset < training.reached]
    wanted = training.window != "after" or training.since is None or event_time >= training.since
    return bool(known) and known[-1].label is not None and wanted


def _first_live(stream: Stream, models: Sequence[Record], number: int) -> Record | None:
    for record in models:
        said = decode_event(record.value)
        if isinstance(said, Published) and _ours(stream, said) and said.version >= number:
            return record
    return None


def _registered(stream: Stream, models: Sequence[Record]) -> list[str]:
    events = (decode_event(record.value) for record in models)
    return [
        f"{BATCH}@{said.version}"
        for said in events
        if isinstance(said, Registered) and said.feature_set == stream.feature_set
    ]


def _ours(stream: Stream, said: Published) -> bool:
    return said.model == ONLINE and said.feature_set == stream.feature_set
