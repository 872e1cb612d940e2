"""Alerts become records once, and people's silences mark them."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from services.drift.judging import Judge
from services.runtime.alerts import Alert, Place, decode_alert
from services.runtime.commands import Silence
from services.runtime.grammar import Value
from services.runtime.records import Record
from tests.made import made

PLACE = Place(0, "s.scored", 0, 0)


def alert(number: int, event: str = "updated", name: str = "a") -> Alert:
    made_of = {"id": name, "number": number, "event": event, "kind": "features", "subject": "x", "severity": "warning"}
    more = {"since": PLACE, "at": PLACE, "statistic": "psi", "strength": 1.0, "reason": "it has changed"}
    return msgspec.convert(made_of | more, Alert)


class Topic:
    """A topic to which the test writes."""

    def __init__(self, *values: bytes) -> None:
        self._records = [Record("t", 0, offset, None, value) for offset, value in enumerate(values)]

    def add(self, value: bytes) -> None:
        self._records.append(Record("t", 0, len(self._records), None, value))

    def new(self) -> Sequence[Record]:
        found, self._records = self._records, []
        return found

    rest = new


class Told:
    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []

    def add(self, offset: int, alert: Alert) -> None:
        self.seen.append((offset, f"{alert.id}/{alert.number}"))


def judge(alerts: Topic, commands: Topic | None = None) -> Judge:
    return Judge(made({"x": Value(of="x")}), alerts, commands or Topic())


def test_what_is_written_is_not_written_again() -> None:
    """A fold that makes its alerts again after a crash writes those that are missing, and no other."""

    async def run() -> None:
        known = judge(Topic(*(msgspec.json.encode(alert(n)) for n in range(3))))
        await known.catch_up(Told(), 0)
        fresh = await known.fresh([alert(n) for n in range(5)] + [alert(0, name="b")])
        assert [(one.id, one.number) for one in fresh] == [("a", 3), ("a", 4), ("b", 0)]
        known.wrote(fresh[0])
        assert [one.number for one in await known.fresh([alert(3), alert(4)])] == [4]
        assert decode_alert(known.record(fresh[0]).value) == fresh[0]
        assert known.record(fresh[0]).key == b"a/3"

    asyncio.run(run())


def test_what_was_not_delivered_is_delivered_after_a_start() -> None:
    """From the offset on up to which it was; what others write meanwhile is seen when the topic is read again."""

    async def run() -> None:
        topic, told = Topic(*(msgspec.json.encode(alert(n)) for n in range(3))), Told()
        known = judge(topic)
        assert not known.ready
        await known.catch_up(told, 2)
        assert (told.seen, known.ready) == ([(2, "a/2")], True)
        known.forget()
        assert not known.ready

    asyncio.run(run())


def test_what_stands_is_the_newest_of_what_is_not_resolved() -> None:
    """By id; what a person has silenced is recorded as silenced, and does not stand for whoever is told."""

    async def run() -> None:
        commands = Topic()
        known = judge(Topic(), commands)
        for one in (alert(0), alert(1), alert(0, name="b"), alert(1, "resolved", "b")):
            known.wrote(one)
        assert known.standing() == [alert(1)]
        commands.add(msgspec.json.encode(Silence("x", time.time_ns() // 1000 + 60_000_000, "ada", "known")))
        (fresh,) = await known.fresh([alert(2)])
        assert fresh == msgspec.structs.replace(alert(2), silenced=True)
        assert known.standing() == []
        assert known.told()[0] == Silence("x", known.orders.silences(0)[0].until, "ada", "known")

    asyncio.run(run())
