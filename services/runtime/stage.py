"""What a service does with a batch: a pure core per partition, or something with hands (inference)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

import msgspec

from services.runtime.errors import Unusable
from services.runtime.records import Outgoing, Record

Batches = Mapping[int, Sequence[Record]]  # for each partition number, its records in the order in which they were read

# Stores more than the state, and saves that by what it is given; is called in a thread, and may raise Retry
Storing: TypeAlias = Callable[[Callable[[bytes], None]], None]


class Core(Protocol):
    """A fold over one partition: no clock, no I/O, no randomness. Cutting a batch anywhere gives the same bytes."""

    def fold(self, records: Sequence[Record]) -> list[Outgoing]: ...

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None: ...


AnyCore = TypeVar("AnyCore", bound=Core)


class Stage(Protocol):
    """What the loop drives. A raised Retry means that nothing changed and the batch may come again."""

    stateful: bool  # whether a restart has to fold what came since the last snapshot

    def open(self, partition: int, state: bytes | None) -> None:
        """Begin a partition; raise Unusable if it can't be gone on with from this state."""

    def close(self, partition: int) -> None: ...

    def fold(self, batches: Batches) -> list[Outgoing]: ...

    def extra(self) -> list[Outgoing]:
        """Return what is due beside the fold, to go out with the next transaction (a model's snapshot, say)."""

    def full(self, partition: int) -> Mapping[str, str]:
        """Return the topics of which the partition has no room for more, each with what would make room."""

    def snapshot(self, partition: int) -> bytes | Storing | None:
        """Return the partition's state, or what stores it, or None if the service keeps none."""


class Cores(Generic[AnyCore]):
    """The plain stage: one core per partition."""

    stateful = True

    def __init__(self, build: Callable[[int], AnyCore]) -> None:
        self._build = build
        self.cores: dict[int, AnyCore] = {}

    def open(self, partition: int, state: bytes | None) -> None:
        core = self._build(partition)
        if state is not None:
            restore(core.restore, state)
        self.cores[partition] = core

    def close(self, partition: int) -> None:
        self.cores.pop(partition, None)

    def fold(self, batches: Batches) -> list[Outgoing]:
        return [out for partition, records in batches.items() for out in self.cores[partition].fold(records)]

    def extra(self) -> list[Outgoing]:
        return []

    def full(self, partition: int) -> Mapping[str, str]:
        del partition
        return {}

    def snapshot(self, partition: int) -> bytes | Storing | None:
        return self.cores[partition].snapshot()


def restore(load: Callable[[bytes], None], state: bytes) -> None:
    """Have a core go on from a state; one whose layout it does not know is folded again, whatever its format says."""
    try:
        load(state)
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise Unusable(f"not laid out as this release lays it out: {type(error).__name__}: {error}") from error
