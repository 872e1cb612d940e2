"""Dead letters, read and sent through again after a fix. `services/runtime/dead_letters.py` says what they are.

That nothing is sent twice rests on three things: a record and the mark that it was sent are one transaction; marks are
read up to the very end of the log, open transactions decided; and both happen under a name that one command has at a
time, which is taken before the marks are read.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from services.replay.verify import Span
from services.runtime.codec import JsonCodec
from services.runtime.dead_letters import DeadLetter, Replayed, decode_dead_letter, replay_letter
from services.runtime.errors import Stop
from services.runtime.records import Outgoing, Position
from services.runtime.stream import Stream
from services.runtime.transport import History

LETTERS, BYTES = 500, 4 << 20  # that a transaction may hold


class Listed(msgspec.Struct, frozen=True):
    """A dead letter, when the broker got it (milliseconds since 1970), and whether it was sent through again."""

    letter: DeadLetter
    timestamp: int
    replayed: bool


class Choice(msgspec.Struct, frozen=True):
    """Which letters: None stands for any. The span is of times at which they were refused."""

    reason: str | None = None
    service: str | None = None
    place: str | None = None
    span: Span = Span()

    def takes(self, letter: DeadLetter, timestamp: int) -> bool:
        return (
            self.reason in (None, letter.reason)
            and self.service in (None, letter.service)
            and self.place in (None, letter.place)
            and timestamp * 1000 in self.span
        )


def read_letters(history: History, stream: Stream, choice: Choice) -> Iterator[Listed]:
    """Yield the letters that are there now, in order; what comes meanwhile, of a replay say, is not among them."""
    topic = stream.topic("dead-letter")
    replayed: set[str] = set()
    last: dict[Position, int] = {}
    for batch in history.read_topic(topic):
        last[batch[-1].position] = batch[-1].offset
        replayed |= {said.place for said in map(decode_dead_letter, batch) if isinstance(said, Replayed)}
    for batch in history.read_topic(topic):
        for record in batch:
            said = decode_dead_letter(record)
            there = record.offset <= last.get(record.position, -1)
            if there and isinstance(said, DeadLetter) and choice.takes(said, record.timestamp):
                yield Listed(said, record.timestamp, said.place in replayed)


class Replay:
    """Sends letters through again. With `fix_keys`, those under a wrong key go under their right one.

    `left` are those that do not carry their record: it was too large, and stands where the letter says.
    """

    def __init__(self, stream: Stream, *, fix_keys: bool) -> None:
        self._stream, self._fix_keys = stream, fix_keys
        self.left: list[DeadLetter] = []
        schemas = {"events": stream.event, "labels": stream.label}
        self._codecs = {stream.topic(kind): JsonCodec(kind, schema) for kind, schema in schemas.items()}

    def run(self, listed: Iterable[Listed], write: Callable[[list[Outgoing]], None]) -> Iterator[DeadLetter]:
        """Send what was not sent before, and yield it once that is durable."""
        for letters in _bounded(self._carried(_unsent(listed))):
            write([out for letter in letters for out in self._send(letter)])
            yield from letters

    def _carried(self, letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
        for letter in letters:
            if letter.value is None:
                self.left.append(letter)
            else:
                yield letter

    def _send(self, letter: DeadLetter) -> list[Outgoing]:
        if letter.topic not in self._codecs:
            raise Stop(f"{letter.place} is of another stream; expected one of {', '.join(self._codecs)}")
        key = self._right_key(letter) if self._fix_keys and letter.reason == "key" else None
        return replay_letter(self._stream.topic("dead-letter"), letter, key)

    def _right_key(self, letter: DeadLetter) -> bytes | None:
        """Return the text of the value's key field; None if the value is bad as well, which will be said of it then."""
        decoded = self._codecs[letter.topic].decode([letter.original()[1]])
        return str(decoded.column(self._stream.key)[0]).encode() if decoded.rows else None


def _unsent(listed: Iterable[Listed]) -> Iterator[DeadLetter]:
    sent: set[str] = set()
    for found in listed:
        if not found.replayed and found.letter.place not in sent:
            sent.add(found.letter.place)
            yield found.letter


def _bounded(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    held: list[DeadLetter] = []
    size = 0
    for letter in letters:
        held.append(letter)
        size += len(letter.value or "")
        if len(held) >= LETTERS or size >= BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held
