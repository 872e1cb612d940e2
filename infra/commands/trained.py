"""What versions of the batch model were trained on, as far as it is known here: by their cards, and by the table."""

from collections.abc import Callable
from pathlib import Path

from services.replay.story.facts import Training
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Retry, Stop
from services.runtime.models import BATCH
from services.runtime.stream import Stream
from services.trainer.cards import Card, Cards
from services.trainer.store import ExampleStore

EXAMPLES = 0  # the one partition of `examples`


class Table:
    """The trainer's table of a run; `where` is a folder or a URL, `<data>/store` if it is empty."""

    def __init__(self, stream: Stream, data: Path, where: str) -> None:
        self._cards = Cards(Artifacts(data, stream.name), stream.feature_set)
        self._store = ExampleStore(where or str(data / "store"), stream)

    def trainings(self) -> list[Training]:
        """Return them in the order of their versions."""
        return [self._training(card) for card in self._cards.all()]

    def _training(self, card: Card) -> Training:
        reached = _known(lambda: self._store.reached(EXAMPLES, card.table_version))
        return Training(f"{BATCH}@{card.version}", card.table_version, reached, card.window, card.since, card.by)

    def first_with(self, offset: int) -> int | None:
        """Return the first version of the table that has this offset of `examples`, as far as versions are kept."""
        return _known(lambda: self._store.first_with(EXAMPLES, offset))


def _known(ask: Callable[[], int | None]) -> int | None:
    try:
        return ask()
    except (Retry, Stop):
        return None
