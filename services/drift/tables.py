"""The tables of the application, and the folds whose states they keep: where Faust's state ends and ours begins.

A table is told of a change by an assignment alone, so states are put into it whole. Its keys are partitions; what a
process holds of partitions that it has no longer is not looked at.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
from faust.types import TP

from services.drift.core import DriftCore, ExampleReducer, ScoredReducer
from services.drift.folding import Folds, told
from services.drift.hours import HOUR_S, Hours
from services.drift.settings import SERVICE, DriftSettings
from services.runtime.clock import Clock
from services.runtime.records import Position, Record
from services.runtime.stream import Stream

REDUCERS: dict[str, Callable[[Stream, int], Any]] = {"scored": ScoredReducer, "examples": ExampleReducer}
STATE, HOURS = "state", "hours"
FORMAT = 2  # of the states: one of another is folded again


def changelogs(stream: Stream, partitions: Mapping[str, int]) -> dict[str, int]:
    """Return the name of each changelog topic, and how many partitions it has: those of its source."""
    names = {changelog(stream, kind, STATE): number for kind, number in partitions.items()}
    counted = {kind: number for kind, number in partitions.items() if kind != "summaries"}
    return names | {changelog(stream, kind, HOURS): number for kind, number in counted.items()}


def changelog(stream: Stream, kind: str, what: str) -> str:
    return f"{stream.name}.{SERVICE}-{kind}-{what}-changelog"


class Tables:
    """The states of all that is read, by its kind."""

    def __init__(
        self, app: faust.App, stream: Stream, settings: DriftSettings, partitions: Mapping[str, int], clock: Clock
    ) -> None:
        self._app, self._stream = app, stream
        rules = f"{FORMAT}/{stream.feature_set}/{stream.drift_rule}"
        self._folds = {kind: Folds(_builder(stream, kind), rules, settings.save_every_s, clock) for kind in partitions}
        self._states = {kind: self._table(kind, STATE, number, bytes) for kind, number in partitions.items()}
        self._topics: dict[str, Any] = {}
        self.hours = {kind: self._hours(kind, number) for kind, number in partitions.items() if kind != "summaries"}

    def raw(self, topic: str) -> Any:  # noqa: ANN401 - Faust's topic
        """Return a topic of the stream as Faust has it: bytes."""
        if topic not in self._topics:
            raw: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
            self._topics[topic] = self._app.topic(topic, **raw)
        return self._topics[topic]

    def on_recovered(self, call: Callable[[], Awaitable[None]]) -> None:
        """Have this called once all tables are what they were, before anything is read."""
        self._states["summaries"].on_recover(call)

    def forget(self) -> None:
        for folds in self._folds.values():
            folds.forget()
        for hours in self.hours.values():
            hours.forget()

    def open(self, kind: str, partition: int) -> Any:  # noqa: ANN401 - each kind has its own fold
        return self._folds[kind].open(partition, self._states[kind].get(str(partition)))

    def running(self, kind: str) -> list[Any]:
        return self._folds[kind].running

    async def folded(self, kind: str, record: Record, told: int = 0) -> None:
        """Note that what a record makes is durable; every so often, put the state into the table.

        The hours are durable before the state that has them: they can tell what they have, and it is left out.
        """
        folds, partition = self._folds[kind], record.partition
        folds.note(partition, record.offset)
        if not folds.due(partition):
            return
        if kind in self.hours:
            self.hours[kind].save(partition)
            await self._app.producer.flush()
        self._states[kind][str(partition)] = folds.save(partition, told)

    def resume_at(self, kind: str, partition: int) -> int:
        found = self._folds[kind].read(self._states[kind].get(str(partition)))
        return found.next if found else 0

    def places(self) -> str:
        """Say from where on each topic is read, for the log."""
        found = {f"{kind}[{p}]": self.resume_at(kind, int(p)) for kind, table in self._states.items() for p in table}
        return ", ".join(f"{where} at {offset}" for where, offset in sorted(found.items())) or "the beginning"

    def told(self, partition: int) -> int:
        """Return the offset in `alerts` before which all was delivered when the state was saved."""
        return told(self._states["summaries"].get(str(partition)))

    def unread(self) -> dict[Position, int]:
        """Return how many records are there that are not folded; a transaction's end counts as one."""
        found = {}
        for kind, folds in self._folds.items():
            name = self._stream.topic(kind)
            for partition, due in folds.positions.items():
                end = self._app.consumer.highwater(TP(name, partition)) or 0
                found[Position(name, partition)] = max(end - due, 0)
        return found

    def _table(self, kind: str, what: str, partitions: int, value: type | None, default: type | None = None) -> Any:  # noqa: ANN401 - Faust's table
        """Make a table. Faust notes the changelog of a table when it is made: given later, it would never be read.

        A type of JSON would be taken for a record of Faust at recovery, and what can't be read is passed over.
        """
        log = self._changelog(kind, what, partitions, value)
        more = {"partitions": partitions, "value_type": value, "changelog_topic": log}
        return self._app.Table(f"{kind}-{what}", default=default, **more)

    def _hours(self, kind: str, partitions: int) -> Hours:
        table = self._table(kind, HOURS, partitions, None, dict)
        windows = table.tumbling(HOUR_S)
        table.changelog_topic = self._changelog(kind, HOURS, partitions, None)  # a window takes it away
        return Hours(windows)

    def _changelog(self, kind: str, what: str, partitions: int, value: type | None) -> Any:  # noqa: ANN401
        return self._app.topic(
            changelog(self._stream, kind, what),
            value_type=value,
            key_serializer="json",
            value_serializer="raw" if value is bytes else "json",
            partitions=partitions,
            compacting=True,
            acks=False,
            internal=True,
            maxsize=131_072,
            allow_empty=True,
        )


def _builder(stream: Stream, kind: str) -> Callable[[int], Any]:
    if kind == "summaries":
        return lambda _: DriftCore(stream)
    return lambda partition: REDUCERS[kind](stream, partition)
