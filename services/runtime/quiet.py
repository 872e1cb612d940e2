"""A log line that says the same over and over is let through once a minute: librdkafka has twenty a second of them."""

import logging

EVERY_S = 60.0
KEPT = 100  # different lines that are remembered


class Quiet(logging.Filter):
    """Lines are the same if they are up to the first parenthesis, where librdkafka says how long it took."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}  # line: when it was let through

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage().partition("(")[0]
        if record.created < self._said.get(line, -EVERY_S) + EVERY_S:
            return False
        if len(self._said) >= KEPT:
            self._said.clear()
        self._said[line] = record.created
        return True
