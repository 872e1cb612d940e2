"""What labels say of an hour of events: counted by their core, told by their health."""

import msgspec


class Hour(msgspec.Struct, frozen=True):
    """Of an hour of events, from `start_s` since 1970 on: how many were predicted, and how many have their label."""

    start_s: int
    predicted: int
    labelled: int
    median_wait_s: float | None
