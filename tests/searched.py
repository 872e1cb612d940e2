"""Looks for words in all bytes that a run has left, in the forms in which bytes travel, and wherever they lie."""

import base64
import gzip
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

NUMBERS = (".index", ".timeindex")  # of a broker: offsets and times alone, in files of 10 MB


def forms(word: str) -> set[bytes]:
    """Return the word as UTF-8, UTF-16, hexadecimal, escaped, in a URL, reversed and as base64 at any alignment."""
    plain = word.encode()
    found = {plain, word.encode("utf-16-le"), plain.hex().encode(), plain.hex().upper().encode(), quote(word).encode()}
    found |= {plain[::-1], "".join(f"\\u{ord(letter):04x}" for letter in word).encode()}
    for shift in range(3):
        padded = b"\0" * shift + plain
        whole = len(padded) // 3 * 3
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(padded[:whole])[4 if shift else 0 :])
    return found


class Searched:
    """What was looked through: `places` by name, each with its bytes."""

    def __init__(self) -> None:
        self.places: dict[str, bytes] = {}

    def add(self, name: str, content: bytes) -> None:
        self.places[name] = content

    def files(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.suffix not in NUMBERS:
                self.add(str(path), path.read_bytes() + b"\0".join(_unpacked(path)))

    def topics(self, broker: str) -> None:
        """Read all topics, what was aborted too: keys, values and headers."""
        for topic, partition, offset, content in raw(broker):
            self.add(f"{topic}[{partition}]@{offset}", content)

    def where(self, words: Iterable[str]) -> list[str]:
        """Return the places that hold one of the words in any form."""
        needles = {form for word in words for form in forms(word)}
        return sorted(name for name, content in self.places.items() if any(needle in content for needle in needles))


def raw(broker: str) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield what stands on every topic, read uncommitted."""
    more = {"isolation.level": "read_uncommitted", "enable.partition.eof": True, "log_level": 0}
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "searched", **more})
    try:
        topics = {name: topic.partitions for name, topic in consumer.list_topics(timeout=10).topics.items()}
        left = {(name, number) for name in topics if not name.startswith("__") for number in topics[name]}
        consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for name, number in left])
        while left:
            message = consumer.poll(20)
            assert message is not None, f"not read to their ends: {left}"
            place = str(message.topic()), int(message.partition() or 0)
            if (error := message.error()) is None:
                yield (*place, int(message.offset() or 0), _content(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(place)
    finally:
        consumer.close()


def _content(message: Message) -> bytes:
    headers = b"\0".join(bytes(value or b"") for _, value in message.headers() or [])
    return b"\0".join((message.key() or b"", message.value() or b"", headers))


def _unpacked(path: Path) -> Iterator[bytes]:
    """Yield what a file holds beside its bytes: tables and archives are compressed."""
    if path.suffix == ".parquet":
        yield str(pq.read_table(path).to_pylist()).encode()
    if path.suffix == ".gz":
        yield gzip.GzipFile(fileobj=io.BytesIO(path.read_bytes())).read()
