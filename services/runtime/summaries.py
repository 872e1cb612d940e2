"""What is said of a fixed number of rows of one partition: all that monitors, and the console, ever see.

`services/drift` writes them, as messages of `summaries`, of either kind, told apart by a tag.

Summaries are cut by row count from the partition's beginning on, never by how messages were cut, so a partition has one
sequence of them, numbered from 0. Who reads them twice counts `(topic, partition, number)` once.
"""

from typing import TypeAlias

import msgspec

from services.runtime.alerts import Place

BINS = 10  # of a reliability diagram, equally wide
LOSS, LOSS2, GAP, GAP2, BIAS, BIAS2, EXPECTED = range(7)  # places of `Judged.sums`


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


class Judged(msgspec.Struct, frozen=True, array_like=True):
    """What the labels of `rows` rows say of one model: "served", "online" or "batch@7". Arrays are bytes of float64.

    `sums` are of the clipped log loss and its square, of the Brier score less what the model expected of it, which is
    (label - p)(1 - 2 p), and its square (Spiegelhalter, "Probabilistic prediction in patient management and clinical
    trials", Statistics in Medicine 1986), of label - p and its square, and of the log loss that the model expected.
    `bins` (BINS, 3) has rows, scores and labels by score, `slices` (slices, 3) rows, losses and their squares.
    """

    model: str
    rows: int
    sums: bytes
    bins: bytes
    slices: bytes


class ExampleSummary(msgspec.Struct, frozen=True, array_like=True, tag="examples"):
    """`rows` rows with a first label, and what became of all rows: a count for each of OUTCOMES.

    `delays` are of those with a label of their own, from the event to it: how many, and the sum, the sum of squares and
    the greatest, in seconds.
    """

    source: Source
    rows: int
    outcomes: tuple[int, int, int, int]
    delays: tuple[int, float, float, float]
    models: list[Judged]


Summary: TypeAlias = ScoredSummary | ExampleSummary
_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Summary)


def encode_summary(summary: Summary) -> bytes:
    return _encoder.encode(summary)


def decode_summary(value: bytes) -> Summary:
    decoded: Summary = _decoder.decode(value)
    return decoded
