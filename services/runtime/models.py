"""The records of `<stream>.models`, and what they add up to: which versions answer, for whom, and how much they count.

The online model is live by being published. A version of the batch model goes `registered → shadow → canary → champion
→ retired`: a shadow is scored and not served, a canary is served to its share of the keys, the champion to all others.
"""

import zlib
from collections.abc import Container, Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

ONLINE, BATCH = "online", "batch"
EVEN = 0.5  # the weight of a batch model beside the online one before anything is known
FOR_ALERT = "alert:"  # before the alert's id, in the name of who asked for a version
State: TypeAlias = Literal["registered", "shadow", "canary", "champion", "retired"]
SCORED: tuple[State, ...] = ("shadow", "canary", "champion")


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


class Registered(msgspec.Struct, frozen=True, tag_field="event", tag="registered"):
    """A version of the batch model was trained on so many `examples`, checked, and stored; nobody is served by it yet.

    `loss` is of its newest examples, `prior_loss` what their share of positives alone would lose on them, in nats.
    `by` is who asked for it.
    """

    model: str
    version: int
    feature_set: str
    examples: int
    loss: float
    prior_loss: float
    by: str

    @property
    def alert(self) -> str | None:
        """The id of the alert that it was trained for, if that is why."""
        return alert_of(self.by)


class Moved(msgspec.Struct, frozen=True, tag_field="event", tag="moved"):
    """A version has come to another state, as `actor` decided, for this reason and on this evidence.

    A canary has a `share` of the keys. There is one champion: the one before goes back to being a shadow.
    """

    model: str
    version: int
    state: State
    actor: str
    reason: str
    share: float = 0.0
    evidence: dict[str, float] = {}


class Weighed(msgspec.Struct, frozen=True, tag_field="event", tag="weighed", omit_defaults=True):
    """The weight of each version in a mix of its own with the online model, which has the rest.

    `evidence` is what rollout has on each version so far: on how many examples, and the decimal logarithms of the odds
    that it is better than its rival, and that it is worse.
    """

    model: str
    weights: dict[int, float]
    evidence: dict[int, tuple[int, float, float]] = {}


Event: TypeAlias = Published | Registered | Moved | Weighed
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def alert_of(by: str) -> str | None:
    """Return the id of the alert for which a version was asked, if it was an alert that asked."""
    return by.removeprefix(FOR_ALERT) if by.startswith(FOR_ALERT) else None


def decode_event(value: bytes) -> Event:
    return _decoder.decode(value)


class Candidate(msgspec.Struct):
    """A version of the batch model, as it stands. `moves` counts how often its state has changed."""

    registered: Registered
    state: State = "registered"
    share: float = 0.0
    moves: int = 0
    reigned: int = 0  # when it became champion last, among all that did; 0: never


class Lineup:
    """The fold of `models` for one feature set; versions of another are passed over, and what is said of them."""

    def __init__(self, feature_set: str) -> None:
        self._feature_set = feature_set
        self._reigns = 0
        self.online: int | None = None
        self.candidates: dict[int, Candidate] = {}
        self._weights: dict[int, float] = {}

    def fold(self, event: Event) -> None:
        match event:
            case Published(model="online"):
                self.online = event.version
            case Registered() if event.feature_set == self._feature_set:
                self.candidates.setdefault(event.version, Candidate(event))
            case Moved() if event.version in self.candidates:
                self._move(event)
            case Weighed():
                self._weights = event.weights

    def _move(self, moved: Moved) -> None:
        candidate = self.candidates[moved.version]
        if moved.state == "champion":
            if self.champion not in (None, moved.version):
                self.candidates[self.champion].state = "shadow"
            self._reigns += 1
            candidate.reigned = self._reigns
        candidate.state, candidate.share = moved.state, moved.share
        candidate.moves += 1

    @property
    def champion(self) -> int | None:
        return next(iter(self.of("champion")), None)

    def of(self, *states: State) -> list[int]:
        """Return the versions in these states, the oldest first."""
        return sorted(version for version, found in self.candidates.items() if found.state in states)

    def weight(self, version: int) -> float:
        """Return how much a version counts beside the online model, where it is served."""
        return self._weights.get(version, EVEN)

    def serving(self, keys: Iterable[str], among: Container[int]) -> dict[str, int]:
        """Return by which version each key is served beside the online model: the same while states are.

        `among` are the versions that can answer; for a champion that can't yet, its predecessor does. A key that none
        is for is left out.
        """
        shares = {version: self.candidates[version].share for version in self.of("canary") if version in among}
        stable = next((one for one in (self.champion, self.predecessor()) if one is not None and one in among), None)
        found = {}
        for key in keys:
            canary = next((version for version, share in shares.items() if chosen(key, version, share)), stable)
            if canary is not None:
                found[key] = canary
        return found

    def predecessor(self) -> int | None:
        """Return the version that was champion before, if it is still scored: what a rollback goes back to."""
        former = [version for version in self.of("shadow") if self.candidates[version].reigned]
        return max(former, key=lambda version: self.candidates[version].reigned, default=None)

    def withdraw(self, version: int, actor: str, reason: str, evidence: dict[str, float] | None = None) -> list[Moved]:
        """Return the records that retire a version and, if it is the champion, bring its predecessor back.

        Without a predecessor the online model serves alone.
        """
        gone = [Moved(BATCH, version, "retired", actor, reason, evidence=evidence or {})]
        before = self.predecessor() if version == self.champion else None
        if before is None:
            return gone
        return [*gone, Moved(BATCH, before, "champion", actor, f"{BATCH}@{version} is withdrawn: {reason}")]

    def keys(self, moves: Sequence[Moved]) -> list[bytes]:
        """Return a key of its own for each of these records, so that a compacted topic keeps them all."""
        counts: dict[int, int] = {}
        keys = []
        for moved in moves:
            before = self.candidates[moved.version].moves if moved.version in self.candidates else 0
            counts[moved.version] = counts.get(moved.version, before) + 1
            keys.append(f"{moved.model}@{moved.version}/{counts[moved.version]}".encode())
        return keys


def chosen(key: str, version: int, share: float) -> bool:
    """Return whether a key is among a version's share of the keys: a hash says so, another for each version."""
    return zlib.crc32(f"{version}:{key}".encode()) < share * 2**32
