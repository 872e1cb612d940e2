"""How the file of the keys changes: a producer gets its first key, another one, or loses one. Pure.

What is random, and the time, are brought. Books are never changed: each of these returns another one. ValueError says
what can't be done.
"""

import hashlib
from datetime import datetime, timedelta

import msgspec

from services.ingestion.keys import Book, Key, Producer


class Fresh(msgspec.Struct, frozen=True):
    """A key that was just drawn: 12 hexadecimal digits, and 256 random bits in 43 characters of base64url."""

    id: str
    secret: str

    @property
    def token(self) -> str:
        """What the producer sends, and is shown once."""
        return f"thalweg_{self.id}_{self.secret}"

    def kept(self, at: datetime) -> Key:
        """Return what the file keeps of it."""
        return Key(self.id, hashlib.sha256(self.secret.encode()).hexdigest(), at)

    def __repr__(self) -> str:
        return f"Fresh({self.id}, ***)"


def create(book: Book, name: str, granted: Producer, fresh: Fresh, at: datetime) -> Book:
    """Have a producer that is not there yet, with its first key."""
    if name in book.producers:
        raise ValueError(f"{name} has a key already; thalweg keys rotate {name} makes the next one")
    return _with(book, name, granted, [fresh.kept(at)])


def rotate(book: Book, name: str, fresh: Fresh, at: datetime, grace: timedelta) -> Book:
    """Give a producer its next key; those that it has are good for `grace` more, or less if they end before."""
    producer = _producer(book, name)
    return _with(book, name, producer, [*(_ending(key, at + grace) for key in producer.keys), fresh.kept(at)])


def revoke(book: Book, which: str, at: datetime) -> tuple[Book, list[str]]:
    """End a key, by its id, or all of a producer at once; also return the ids of those that were ended."""
    named = book.producers.get(which)
    ids = {key.id for key in named.keys} if named else {which}
    changed, gone = book, list[str]()
    for name, producer in book.producers.items():
        ended = [key.id for key in producer.keys if key.id in ids and key.revoked is None]
        if ended:
            changed = _with(
                changed, name, producer, [_revoked(key, at) if key.id in ended else key for key in producer.keys]
            )
            gone += ended
    if not gone:
        raise ValueError(f"no key {which!r} that is not revoked, and no producer of that name has one")
    return changed, gone


def _producer(book: Book, name: str) -> Producer:
    found = book.producers.get(name)
    if found is None:
        raise ValueError(f"no producer {name!r}; there are: {', '.join(sorted(book.producers)) or 'none'}")
    return found


def _with(book: Book, name: str, producer: Producer, keys: list[Key]) -> Book:
    return Book({**book.producers, name: msgspec.structs.replace(producer, keys=keys)})


def _ending(key: Key, at: datetime) -> Key:
    return msgspec.structs.replace(key, ends=at if key.ends is None else min(at, key.ends))


def _revoked(key: Key, at: datetime) -> Key:
    return msgspec.structs.replace(key, revoked=at)
