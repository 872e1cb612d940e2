"""The records of `<stream>.models`: which version of a model is live, and where it came from. Keyed by the model."""

import msgspec

ONLINE = "online"


class Published(msgspec.Struct, frozen=True, tag_field="event", tag="published"):
    """A version of a model exists and goes live. `learned` examples made it; `log_loss` is prequential, in nats.

    `unretractable` of them correct others that it has learned before, and could not unlearn.
    """

    model: str
    version: int
    feature_set: str
    learned: int
    log_loss: float | None
    unretractable: int = 0


def decode_published(value: bytes) -> Published:
    return msgspec.json.decode(value, type=Published)
