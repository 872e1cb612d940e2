"""Server-sent events: each part of the picture once, then as it changes, at most once a second."""

import asyncio
from collections.abc import AsyncIterator

from services.console.picture import PARTS, Picture

EVERY_S = 1.0
SILENCE_S = 15.0  # after so long without news, a word that the line is open


async def follow(picture: Picture) -> AsyncIterator[bytes]:
    """Yield what one page is sent until it goes."""
    yield b"retry: 1000\n\n"
    shown = dict.fromkeys(PARTS, -1)
    quiet = 0.0
    while True:
        news = picture.news()
        changed = [part for part in PARTS if news[part] != shown[part]]
        for part in changed:
            yield b"event: %b\ndata: %b\n\n" % (part.encode(), picture.body(part))
        shown = news
        quiet = 0.0 if changed else quiet + EVERY_S
        if quiet >= SILENCE_S:
            quiet = 0.0
            yield b": nothing new\n\n"
        await asyncio.sleep(EVERY_S)
