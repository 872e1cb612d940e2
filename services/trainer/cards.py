"""The cards of a batch model's versions: what each is, and is worth. A version is complete when its card stands."""

import logging
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from services.runtime.artifacts import Artifacts
from services.runtime.errors import Retry
from services.runtime.models import BATCH
from services.trainer.worth import Bin, Part

Window: TypeAlias = Literal["all", "after", "before"]  # of the examples, seen from a change; see windows.py
log = logging.getLogger(__name__)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a version of the batch model is, and is worth. Losses are log losses in nats.

    `loss` is of the latest rows, on which only the temperature was fitted, and so are `slices` and `reliability`;
    `prior_loss` is what the share of positives in the oldest part would lose on them. `losses` are those of each
    epoch, of training and of validation. `table_version` is the version of the table that the run pinned, `newest` the
    newest event time in it (µs since 1970). It is `servable` if one vector, of `columns`, is all that a score takes.
    `code` is the commit that trained, where it is known, in `workers` processes. Where it was trained for a change,
    `since` is the event time from which on examples are of the new world, `window` the one of `windows.py` that it is
    of, and `windows` says what each of them lost on the newest examples, which none had seen.
    """

    version: int
    feature_set: str
    by: str
    table_version: int
    newest: int
    rows: int
    positives: float
    columns: int
    recipe: Mapping[str, Any]
    epochs: int
    best_epoch: int
    temperature: float
    loss: float
    prior_loss: float
    device: str
    torch: str
    servable: bool
    losses: list[tuple[float, float]]
    slices: dict[str, Part]
    reliability: list[Bin]
    code: str
    workers: int = 1
    since: int | None = None
    window: Window = "all"
    windows: dict[str, float] = {}

    @property
    def obstacle(self) -> str:
        """Say why it can't be served, if it can't."""
        why = f'a "{self.recipe["kind"]}" needs the last vectors of an entity for a score, and what is served sends one'
        return "" if self.servable else why


class Cards:
    """The cards of one feature set's versions. Each is read once; what is no card is named once, and left out."""

    def __init__(self, artifacts: Artifacts, feature_set: str) -> None:
        self._artifacts, self._feature_set = artifacts, feature_set
        self._known: dict[int, Card | None] = {}

    def all(self) -> list[Card]:
        """Return those that stand now, the oldest version first."""
        known = {version: self._card(version) for version in self._artifacts.carded(BATCH)}
        self._known = known
        return [card for card in known.values() if card is not None and card.feature_set == self._feature_set]

    def free(self) -> int:
        """Return the number of the next version: none that has a card, of whatever feature set, is as high."""
        return max(self._artifacts.carded(BATCH), default=0) + 1

    def add(self, card: Card, graph: bytes) -> None:
        """Store a version: the signed graph, then its card. Raise Retry if it can't be stored; nothing counts then."""
        self._artifacts.write(BATCH, card.version, graph)
        place = self._artifacts.card(BATCH, card.version)
        draft = place.with_name(f".{place.name}")
        try:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
            draft.rename(place)
        except OSError as error:
            raise Retry(f"the card of {BATCH}@{card.version} can't be stored: {error}") from error

    def _card(self, version: int) -> Card | None:
        if version not in self._known:
            self._known[version] = self._read(version)
        return self._known[version]

    def _read(self, version: int) -> Card | None:
        place = self._artifacts.card(BATCH, version)
        try:
            return msgspec.json.decode(place.read_bytes(), type=Card)
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s is no card of ours, its version is left out: %s", place, error)
            return None
