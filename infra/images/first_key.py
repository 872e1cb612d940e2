"""The first key of a stack's door: it is made before the door opens, as nobody comes in there without."""

import datetime as dt
from pathlib import Path

from services.ingestion.issuing import create
from services.ingestion.key_file import change, draw, keys_path
from services.ingestion.keys import SCOPES, Producer

FIRST = "first-producer"  # what it is called, and the file that its key is in


def make_first_key(data: Path, stream: str) -> None:
    """Have a first producer, whose key is in a file that its owner alone may read: no door stands open meanwhile."""
    shown = data / "ingestion" / FIRST
    if keys_path(data).exists():
        return
    shown.parent.mkdir(parents=True, exist_ok=True)
    fresh, granted = draw(), Producer(list(SCOPES), [stream])
    shown.touch(mode=0o600)
    shown.write_text(fresh.token)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    change(keys_path(data), lambda book: create(book, FIRST, granted, fresh, now))
