"""The messages of `summaries`: a summary of either kind, told apart by its tag."""

from typing import TypeAlias

import msgspec

from services.drift.example_summaries import ExampleSummary
from services.drift.summaries import ScoredSummary

Summary: TypeAlias = ScoredSummary | ExampleSummary

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Summary)


def encode_summary(summary: Summary) -> bytes:
    return _encoder.encode(summary)


def decode_summary(value: bytes) -> Summary:
    decoded: Summary = _decoder.decode(value)
    return decoded
