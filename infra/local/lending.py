"""A key of our own where the door asks for one: the demo sends as a producer does, for as long as it sends."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.ingestion.issuing import create
from services.ingestion.key_file import change, draw
from services.ingestion.keys import Book, Producer


@contextmanager
def lent(file: Path, stream: str) -> Iterator[str | None]:
    """Yield a key that may send to the stream, and take it away again; None where there are no keys."""
    if not file.exists():
        yield None
        return
    fresh, granted = draw(), Producer(["events:write", "labels:write"], [stream])
    name = f"demo-{fresh.id}"
    change(file, lambda book: create(book, name, granted, fresh, dt.datetime.now(dt.UTC)))
    try:
        yield fresh.token
    finally:
        change(file, lambda book: Book({other: kept for other, kept in book.producers.items() if other != name}))
