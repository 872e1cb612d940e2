"""What is said of a fixed number of rows of one partition: all that monitors ever see, as messages of `summaries`.

Summaries are cut by row count from the partition's beginning on, never by how messages were cut, so a partition has one
sequence of them, numbered from 0. Who reads them twice counts `(topic, partition, number)` once.
"""

import msgspec

from services.runtime.alerts import Place


class Source(msgspec.Struct, frozen=True, array_like=True):
    """Which rows these are: the offsets of the messages with the first and the last one, and their event times (µs)."""

    topic: str
    partition: int
    number: int
    first: int
    last: int
    began: int
    ended: int

    @property
    def start(self) -> Place:
        return Place(self.began, self.topic, self.partition, self.first)

    @property
    def end(self) -> Place:
        return Place(self.ended, self.topic, self.partition, self.last)


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """A version of the batch model that answered: for how many of the rows, and for how many as the champion."""

    version: int
    rows: int
    champion: int


class ScoredSummary(msgspec.Struct, frozen=True, tag="scored", array_like=True):
    """`rows` rows of `scored`. Arrays are bytes, little-endian, float32 or uint16; columns are those of `Layout`.

    `quantiles` (columns, KEPT) has every second value of the sorted column, ascending, the rest NaN: one compaction of
    a KLL sketch (Karnin, Lang and Liberty, "Optimal quantile approximation in streams", FOCS 2016). A rank is off by
    one row at most, whatever the scale of the column, and sketches merge by being read together. `missing` counts NaN,
    `defaults` the values that stand in for a missing one. `hot` counts the values of each one-hot feature, and none of
    them. `whole` (vectors, columns of the stream) are some of the rows as they are.
    `sums` (slices, 1 + columns) has for each value of a sliced feature how many rows, and the sum of each column.
    """

    source: Source
    rows: int
    quantiles: bytes
    missing: bytes
    defaults: bytes
    hot: bytes
    whole: bytes
    sums: bytes
    answered: list[Answered] = []
