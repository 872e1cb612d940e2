"""Where every client of librdkafka gets its settings: nobody connects in another way, and so nobody forgets TLS.

Before the first client of a process with TLS or a user, the broker is asked whether it would have it: librdkafka itself
would go on trying, and say so in its log alone. A broker that is away is for the client to wait for.
"""

import logging
import time
from functools import cache
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from services.runtime.credentials import examine, of_librdkafka, protected, remedy
from services.runtime.errors import Stop
from services.runtime.settings import Settings

log = logging.getLogger("librdkafka")
EVERY_S = 60.0
KNOCK_S = 10.0  # for so long it is tried
SURE_S = 2.0  # a broker that has just started, or a user that was just made, may be refused for a moment
QUICK: dict[str, Any] = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}


def client(settings: Settings, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - librdkafka's settings are of many types
    """Return librdkafka settings for the stream's broker; its log goes to ours.

    ConfigError or Stop where the broker and this client can't come to terms.
    """
    found: dict[str, Any] = {"bootstrap.servers": settings.broker, "logger": log}
    if protected(settings):
        meet(settings)
        found |= of_librdkafka(settings) | {"error_cb": _Ear(settings)}
    return found | more


class _Ear:
    """Says what to do about a connection that the broker or the client refuses, once a minute."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._said: dict[str, float] = {}  # when

    def __call__(self, error: KafkaError) -> None:
        told, now = remedy(self._settings, error.str()), time.monotonic()
        if told is not None and now > self._said.get(told, -EVERY_S) + EVERY_S:
            self._said[told] = now
            log.error("%s", told)


def knock(settings: Settings) -> None:
    """Raise Stop if the broker, or this client of it, refuses the other. Where nobody answers it waits for seconds."""
    refused: list[tuple[str, str]] = []  # what librdkafka says, and what to do about it

    def hear(error: KafkaError) -> None:
        if (told := remedy(settings, error.str())) is not None:
            refused.append((error.str(), told))

    how = {"bootstrap.servers": settings.broker, "error_cb": hear, **QUICK, "reconnect.backoff.ms": 100}
    admin = AdminClient(how | of_librdkafka(settings))
    began, since = time.monotonic(), 0.0
    while time.monotonic() < began + KNOCK_S:
        admin.poll(0.1)
        if refused:
            since = since or time.monotonic()
            if time.monotonic() > since + SURE_S:
                break
        if _answers(admin):
            return
    if refused:
        said, told = refused[-1]
        log.info("%s", said)
        raise Stop(examine(settings) or told)


def _answers(admin: AdminClient) -> bool:
    try:
        admin.list_topics(timeout=0.5)
    except KafkaException:
        return False
    return True


@cache
def _knocked(settings: Settings) -> None:
    knock(settings)


def meet(settings: Settings) -> None:
    """Knock once for all settings that are the same to the broker; a refusal is found out each time.

    Whoever makes clients on threads alone calls it before, to end with what it says.
    """
    if not protected(settings):
        return
    _knocked(
        Settings(
            broker=settings.broker,
            broker_ca=settings.broker_ca,
            broker_user=settings.broker_user,
            broker_password=settings.broker_password,
            broker_password_file=settings.broker_password_file,
        )
    )
