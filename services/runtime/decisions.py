"""What people decide of the versions of the batch model, from the command line and from the console alike."""

from collections.abc import Callable, Sequence
from contextlib import closing

import msgspec

from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.history import KafkaHistory
from services.runtime.models import BATCH, Lineup, Moved, decode_event
from services.runtime.records import Outgoing
from services.runtime.settings import Settings
from services.runtime.stream import Stream
from services.runtime.transactions import Transactions

Moves = Callable[[Stream, Settings, Lineup], list[Moved]]


def promotion(version: int, actor: str, reason: str) -> Moves:
    """Make a version champion, whatever it was, as long as its artifact is there."""

    def moves(stream: Stream, settings: Settings, lineup: Lineup) -> list[Moved]:
        _expect(stream, lineup, version)
        if lineup.candidates[version].state == "champion":
            raise ValueError(f"{BATCH}@{version} is the champion already")
        _check_artifact(stream, settings, version)
        return [Moved(BATCH, version, "champion", actor, reason)]

    return moves


def rollback(actor: str, reason: str) -> Moves:
    """Retire the champion; the one before it comes back."""

    def moves(stream: Stream, settings: Settings, lineup: Lineup) -> list[Moved]:
        del stream, settings
        if lineup.champion is None:
            raise ValueError("there is no champion to roll back: the online model serves alone")
        return lineup.withdraw(lineup.champion, actor, reason)

    return moves


def retirement(version: int, actor: str, reason: str) -> Moves:
    """Retire a version, whatever it is; of a champion, the one before comes back."""

    def moves(stream: Stream, settings: Settings, lineup: Lineup) -> list[Moved]:
        del settings
        _expect(stream, lineup, version)
        if lineup.candidates[version].state == "retired":
            raise ValueError(f"{BATCH}@{version} is retired already")
        return lineup.withdraw(version, actor, reason)

    return moves


def _expect(stream: Stream, lineup: Lineup, version: int) -> None:
    if version not in lineup.candidates:
        known = ", ".join(f"{BATCH}@{one}" for one in lineup.candidates) or "none"
        raise ValueError(f"no version {BATCH}@{version} is registered for {stream.feature_set}; there are: {known}")


def _check_artifact(stream: Stream, settings: Settings, version: int) -> None:
    try:
        Artifacts(settings.data, stream.name).read(BATCH, version)
    except Stop as error:
        raise Stop(f"{error}. Inference could not load it; promote it where the run's data is (--run-dir)") from error


def decide(stream: Stream, settings: Settings, moves: Moves) -> tuple[Sequence[Moved], Lineup]:
    """Write what follows from `models` as it is, by one who decides at a time; return it, and what is then."""
    topic = stream.topic("models")
    transactions = Transactions(settings, topic)
    lineup = _read(stream, settings)
    made = moves(stream, settings, lineup)
    records = zip(lineup.keys(made), made, strict=True)
    transactions.write([Outgoing(topic, msgspec.json.encode(moved), key, 0) for key, moved in records])
    for moved in made:
        lineup.fold(moved)
    return made, lineup


def _read(stream: Stream, settings: Settings) -> Lineup:
    lineup = Lineup(stream.feature_set)
    with closing(KafkaHistory(settings)) as history:
        for records in history.read_topic(stream.topic("models")):
            for record in records:
                lineup.fold(decode_event(record.value))
    return lineup
