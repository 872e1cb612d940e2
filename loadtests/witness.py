"""The independent reader of the hostile run: what must come out of the log, what did, and how the two differ."""

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from services.runtime.errors import Retry
from services.runtime.frames import Frame
from services.runtime.kafka import Tail
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.settings import Settings
from services.runtime.stream import Stream

STALL_S = 30.0  # without a record for so long, what is missing is called missing
MORE_S = 3.0  # how long to look for what is too much
SHOWN = 20
Original = tuple[str, str | None, str | None]  # topic, and the digests of key and value


class Letter(msgspec.Struct):
    """What any reader of `dead-letter` finds there."""

    reason: str
    message: str
    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None


class Prediction(msgspec.Struct):
    """What a consumer needs of a prediction; a score that is no number does not decode."""

    event_id: str
    prediction: dict[str, float]


class Expected:
    """What was sent: ids to be predicted and to become examples, originals to be dead letters, and what went wrong."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.letters: Counter[Original] = Counter()
        self.reasons: dict[Original, frozenset[str]] = {}
        self.kinds: Counter[str] = Counter()
        self.violations: list[str] = []

    @property
    def bad(self) -> int:
        """How many malformed records and bodies were sent."""
        return sum(n for kind, n in self.kinds.items() if ": good" not in kind)

    def dead(self, topic: str, key: bytes | None, value: bytes | None, reasons: frozenset[str]) -> None:
        original = (topic, _digest(key), _digest(value))
        self.letters[original] += 1
        self.reasons[original] = self.reasons.get(original, frozenset()) | reasons


class Witness:
    """Reads predictions, examples and dead letters from their beginning."""

    def __init__(self, settings: Settings, stream: Stream) -> None:
        self._frame: Frame = examples_frame(stream)
        kinds = {"predictions": self._prediction, "examples": self._example, "dead-letter": self._letter}
        self._tails = [(Tail(settings, stream.topic(kind), from_beginning=True), take) for kind, take in kinds.items()]
        self.predictions: Counter[str] = Counter()
        self.examples: Counter[str] = Counter()
        self.letters: Counter[Original] = Counter()
        self.places: Counter[tuple[str, int, int]] = Counter()
        self.complaints: list[str] = []
        self._expected = Expected()
        self._came = 0

    def read(self, expected: Expected, check: Callable[[], None]) -> list[str]:
        """Read until all that is expected came, and a little more; return the violations."""
        self._expected = expected
        awaited = sum(found.total() for found in (expected.events, expected.labels, expected.letters))
        since, extra = time.monotonic(), float("inf")
        while time.monotonic() < min(since + STALL_S, extra):
            if self._poll():
                since = time.monotonic()
            if extra == float("inf") and self._came >= awaited:
                extra = time.monotonic() + MORE_S
            check()
        return [*expected.violations, *self.complaints, *self._differences()]

    def close(self) -> None:
        for tail, _ in self._tails:
            tail.close()

    def _poll(self) -> int:
        n = 0
        for tail, take in self._tails:
            try:
                found = tail.poll(5000, 0.02)
            except Retry:
                continue
            for record in found:
                take(record)
            n += len(found)
        return n

    def _prediction(self, record: Record) -> None:
        try:
            self.predictions[msgspec.json.decode(record.value, type=Prediction).event_id] += 1
            self._came += 1
        except msgspec.DecodeError as error:
            self.complaints.append(f"prediction at {record.partition}/{record.offset}: {error}")

    def _example(self, record: Record) -> None:
        ids = self._frame.decode(record).column("event_id").to_pylist()
        self.examples.update(ids)
        self._came += len(ids)

    def _letter(self, record: Record) -> None:
        letter = msgspec.json.decode(record.value, type=Letter)
        original = (letter.topic, _digest(_decoded(letter.key)), _digest(_decoded(letter.value)))
        self.letters[original] += 1
        self._came += 1
        self.places[letter.topic, letter.partition, letter.offset] += 1
        reasons = self._expected.reasons.get(original)
        if reasons is None:
            self.complaints.append(f"unexpected dead letter: {str(letter)[:500]}")
        elif letter.reason not in reasons or not letter.message:
            self.complaints.append(f"dead letter for {letter.reason!r}, expected {sorted(reasons)}: {letter.message}")

    def _pairs(self) -> list[tuple[str, Counter[object], Counter[object]]]:
        expected = self._expected
        return [
            ("prediction", Counter(expected.events), Counter(self.predictions)),
            ("example", Counter(expected.labels), Counter(self.examples)),
            ("dead letter", Counter(expected.letters), Counter(self.letters)),
        ]

    def _differences(self) -> list[str]:
        found = [f"two dead letters of {place}" for place, n in self.places.items() if n > 1]
        for what, expected, got in self._pairs():
            found += [f"{what} missing {n} times: {item}" for item, n in (expected - got).items()]
            found += [f"{what} too many, {n} times: {item}" for item, n in (got - expected).items()]
        return found


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()[:24]


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
