"""Server-sent events: each part of the picture once, then as it changes, at most once a second."""

import asyncio
import itertools
from collections.abc import AsyncIterator

from services.console.picture import PARTS, Cursor, Part, Picture

EVERY_S = 1.0
RARELY: dict[Part, int] = {"drift": 5}  # what is large and slow is sent every so many turns
SILENCE_S = 15.0  # after so long without news, a word that the line is open


async def follow(picture: Picture) -> AsyncIterator[bytes]:
    """Yield what one page is sent until it goes."""
    yield b"retry: 1000\n\n"
    shown = dict.fromkeys(PARTS, -1)
    cursor: Cursor = (-1, 0)
    quiet = 0.0
    for turn in itertools.count():
        news = picture.news()
        changed = [part for part in PARTS if news[part] != shown[part] and turn % RARELY.get(part, 1) == 0]
        told = b""
        for part in changed:
            if part == "quality":
                body, cursor = picture.since(cursor)
            else:
                body = picture.body(part)
            told += b"event: %b\ndata: %b\n\n" % (part.encode(), body)
            shown[part] = news[part]
        if told:
            yield told
        quiet = 0.0 if changed else quiet + EVERY_S
        if quiet >= SILENCE_S:
            quiet = 0.0
            yield b": nothing new\n\n"
        await asyncio.sleep(EVERY_S)
