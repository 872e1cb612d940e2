"""Looks for words in all bytes that a run has left, in the forms in which bytes travel, and wherever they lie."""

import base64
import gzip
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
from confluent_kafka import Consumer, TopicPartition

from services.runtime.kafka import ask

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
        topics = {name: sorted(topic.partitions) for name, topic in consumer.list_topics(timeout=10).topics.items()}
        for name, partitions in topics.items():
            for partition in [] if name.startswith("__") else partitions:
                yield from _partition(consumer, name, partition)
    finally:
        consumer.close()


def _partition(consumer: Consumer, topic: str, partition: int) -> Iterator[tuple[str, int, int, bytes]]:
    where = TopicPartition(topic, partition, 0)
    low, high = ask(f"where {topic}[{partition}] ends", lambda: consumer.get_watermark_offsets(where, timeout=10))
    consumer.assign([TopicPartition(topic, partition, low)])
    while low < high:
        message = consumer.poll(5)
        assert message is not None, f"{topic}[{partition}] is not read up to {high}"
        if message.error() is not None:  # the end
            return
        headers = b"\0".join(bytes(value or b"") for _, value in message.headers() or [])
        yield topic, partition, message.offset(), b"\0".join((message.key() or b"", message.value() or b"", headers))


def _unpacked(path: Path) -> Iterator[bytes]:
    """Yield what a file holds beside its bytes: tables and archives are compressed."""
    if path.suffix == ".parquet":
        yield str(pq.read_table(path).to_pylist()).encode()
    if path.suffix == ".gz":
        yield gzip.GzipFile(fileobj=io.BytesIO(path.read_bytes())).read()
