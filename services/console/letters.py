"""One record that was refused: to be looked at, and sent through again, as it was or mended."""

import base64
from typing import Any

import msgspec

from services.console.searching import Search, searching
from services.runtime.codec import JsonCodec
from services.runtime.dead_letters import REPLAYED_HEADER, DeadLetter, Replayed, decode_dead_letter, replay_letter
from services.runtime.pii import Masker
from services.runtime.records import Outgoing
from services.runtime.settings import Settings
from services.runtime.stream import Stream
from services.runtime.transactions import Transactions
from services.runtime.treatments import HIDDEN

AGAIN = "a letter is sent through once: what came of it is a new letter, or a prediction"


class Letters:
    """Reads letters by where they stand on `dead-letter`."""

    def __init__(self, stream: Stream, settings: Settings, masker: Masker) -> None:
        self._stream, self._settings, self._masker = stream, settings, masker
        self._topic = stream.topic("dead-letter")
        schemas = {"events": stream.event, "labels": stream.label}
        self._codecs = {stream.topic(kind): JsonCodec(kind, schema) for kind, schema in schemas.items()}

    def show(self, partition: int, offset: int) -> dict[str, Any] | None:
        """Return a letter with its bytes; None if none stands there."""
        with searching(self._settings) as search:
            found = self._find(search, partition, offset)
            if found is None:
                return None
            letter, at = found
            replayed = self._replayed(search, partition, offset, letter)
        encoding, text = self._text(letter)
        shown: dict[str, Any] = msgspec.to_builtins(letter)
        return shown | {
            "key": None if letter.key is None else self._masked_key(letter),
            "value": None,
            "bytes": text,
            "encoding": encoding,
            "at": at,
            "reason": letter.reason,
            "message": self._message(letter),
            "replayed": replayed,
        }

    def replay(self, partition: int, offset: int, fixed: str | None) -> str | None:
        """Send it through again, and mark it in the same transaction; return its place, None if there is none.

        ValueError if it was sent before, or `fixed` is no good record.
        """
        transactions = Transactions(self._settings, self._topic)  # whoever has the name has seen every mark
        with searching(self._settings) as search:
            found = self._find(search, partition, offset)
            if found is None:
                return None
            letter, _ = found
            if self._replayed(search, partition, offset, letter):
                raise ValueError(f"{letter.place} was sent through already; {AGAIN}")
        transactions.write(self._records(letter, fixed))
        return letter.place

    def _records(self, letter: DeadLetter, fixed: str | None) -> list[Outgoing]:
        if letter.topic not in self._codecs:
            raise ValueError(f"{letter.place} is of another stream")
        as_it_was, mark = replay_letter(self._topic, letter)
        if fixed is None:
            return [as_it_was, mark]
        value = self._restored(letter, fixed)
        decoded = self._codecs[letter.topic].decode([value])
        if decoded.rejects:
            raise ValueError(f"what was sent is not good either: {decoded.rejects[0]}")
        key = str(decoded.column(self._stream.key)[0]).encode()
        headers = [(REPLAYED_HEADER, letter.place.encode())]
        return [Outgoing(letter.topic, value, key, None, list(headers)), mark]

    def _find(self, search: Search, partition: int, offset: int) -> tuple[DeadLetter, int] | None:
        if partition not in search.partitions(self._topic):
            return None
        record = search.at(self._topic, partition, offset)
        if record is None or record.offset != offset:
            return None
        said = decode_dead_letter(record)
        return (said, record.timestamp) if isinstance(said, DeadLetter) else None

    def _replayed(self, search: Search, partition: int, offset: int, letter: DeadLetter) -> bool:
        """Whether a mark says so: it stands behind the letter."""
        return any(
            isinstance(said, Replayed) and said.place == letter.place
            for said in map(decode_dead_letter, search.behind(self._topic, partition, offset + 1))
        )

    # What is shown of it

    def _text(self, letter: DeadLetter) -> tuple[str, str]:
        """Return the encoding and the bytes; where fields are marked and it can't be told which, they stay hidden."""
        if letter.value is None:
            return "none", ""
        value = base64.b64decode(letter.value)
        fields = _fields(value)
        if self._masker.fields:
            masked = "" if fields is None else msgspec.json.encode(self._masker.record(fields)).decode()
            return ("text", masked) if masked else ("none", "")
        try:
            return "text", value.decode()
        except UnicodeDecodeError:
            return "base64", letter.value

    def _restored(self, letter: DeadLetter, fixed: str) -> bytes:
        """Put back what a hash stands for, where it was left as it was shown."""
        original = None if letter.value is None else _fields(base64.b64decode(letter.value))
        shown = _fields(fixed.encode())
        if not self._masker.fields or original is None or shown is None:
            return fixed.encode()
        return msgspec.json.encode(self._masker.restored(shown, original))

    def _masked_key(self, letter: DeadLetter) -> str:
        key = base64.b64decode(letter.key or "").decode(errors="replace")
        return str(self._masker.value(self._stream.key, key))

    def _message(self, letter: DeadLetter) -> str:
        told = not self._masker.fields or letter.message.startswith(HIDDEN)
        return letter.message if told else "hidden: it may quote a field that is marked"


def _fields(value: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
