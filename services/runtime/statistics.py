"""What a consumer's librdkafka says once a second: whether any broker is there, and how much is not read yet."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from services.runtime.health import Health
from services.runtime.records import Position

EVERY_MS = 1000
Settings: TypeAlias = dict[str, int | Callable[[str], None]]  # of librdkafka


class _Broker(msgspec.Struct, frozen=True):
    state: str


class _Partition(msgspec.Struct, frozen=True):
    """`desired` is what is assigned. Offsets are negative where they are not known yet."""

    desired: bool
    ls_offset: int
    app_offset: int

    @property
    def unread(self) -> int:
        return max(self.ls_offset - max(self.app_offset, 0), 0)


class _Topic(msgspec.Struct, frozen=True):
    partitions: dict[int, _Partition]


class _Statistics(msgspec.Struct, frozen=True):
    """The part of librdkafka's statistics (its STATISTICS.md) that is used here."""

    brokers: dict[str, _Broker]
    topics: dict[str, _Topic]


def statistics(health: Health, broker: str) -> Settings:
    """Return the settings of a consumer whose `poll` keeps the health up to date."""
    decode, wait = msgspec.json.Decoder(_Statistics).decode, health.wait()

    def hear(text: str) -> None:
        heard = decode(text)
        if any(found.state == "UP" for found in heard.brokers.values()):
            wait.over()
        else:
            wait.note(f"no connection to the broker at {broker}")
        health.unread.unread(_unread(heard))
        health.lag = health.unread.records()

    return {"statistics.interval.ms": EVERY_MS, "stats_cb": hear}


def _unread(heard: _Statistics) -> dict[Position, int]:
    return {
        Position(name, number): partition.unread
        for name, topic in heard.topics.items()
        for number, partition in topic.partitions.items()
        if partition.desired
    }
