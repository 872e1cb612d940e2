"""The settings of the console."""

from typing import Annotated, Literal

import msgspec

from services.runtime.settings import Count, Port, Seconds, Settings

SERVICE = "console"


class ConsoleSettings(Settings, frozen=True):
    """`tokens` is the file of the tokens, `<data>/console/tokens.json` if empty; it is made where there is none.

    `services` says where processes answer probes: the file that the launcher writes, or `name=url,name=url`.
    Spans are taken from this machine only, unless `traces_from` says otherwise: their senders have no token.
    """

    host: str = "127.0.0.1"
    port: Port = 8090
    tokens: str = ""
    services: str = ""
    store_mb: Annotated[int, msgspec.Meta(ge=16)] = 256  # that spans may take on disk
    traces_from: Literal["loopback", "anywhere"] = "loopback"
    max_body: Count = 8 << 20
    room: Count = 64 << 20
    patience_s: Seconds = 30.0
    connections: Count = 200
