"""What a stack needs before its services: keys, Triton's models, topics, targets. It may run again.

A container that runs once, `python -m infra.images.prepare`; the services start when it has ended well.
"""

import logging
import os
import sys
import time
from concurrent.futures import Future
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.images.first_key import make_first_key
from infra.local.model_repository import write_models
from infra.local.scraped import tell
from infra.local.topics import partitions, topic_config
from services.runtime.clients import client
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.stream import TOPICS, Stream, load_stream

NAME = "prepare"
TARGETS = Path("/targets")  # what Prometheus reads
_TOGETHER_S = 60.0  # how long the nodes of a cluster may take until the last of them is there
_THE_BROKERS = -1  # as many replicas as the broker's own default says
log = logging.getLogger(NAME)


def main() -> None:
    """Make what is missing, and leave what is there."""
    settings = Settings.load(NAME, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    make_keys(settings.data / "keys")
    make_first_key(settings.data, stream.name)
    write_models(settings.data / "triton", settings.data, stream)
    create_topics(settings, stream, int(os.environ.get("PARTITIONS", "3")))
    answering = dict(part.split("=", 1) for part in os.environ.get("THALWEG_CONSOLE_SERVICES", "").split(",") if part)
    tell(TARGETS, stream.name, answering, os.environ.get("TRITON_METRICS", "triton:8002"))


def create_topics(settings: Settings, stream: Stream, shared: int) -> None:
    """Create the topics that are missing; while brokers are, that replicas are to lie on, try again for a minute."""
    wanted = [
        NewTopic(
            stream.topic(kind),
            num_partitions=partitions(kind, shared),
            replication_factor=_THE_BROKERS,
            config={"retention.ms": "-1", **topic_config(kind)},
        )
        for kind in TOPICS
    ]
    admin = AdminClient(client(settings))  # its end would be that of what it was asked for
    deadline = time.monotonic() + _TOGETHER_S
    while wanted:
        made = admin.create_topics(wanted, request_timeout=30)
        wanted = [one for one in wanted if not settled(one.topic, made[one.topic], last=time.monotonic() > deadline)]
        time.sleep(1 if wanted else 0)


def settled(name: str, future: Future[None], *, last: bool) -> bool:
    """Tell whether there is a topic now; not where it lacks brokers, unless this was its last chance."""
    try:
        future.result()
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.INVALID_REPLICATION_FACTOR and not last:
            return False
        if code != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        log.info("%s: is there", name)
    else:
        log.info("%s: made", name)
    return True


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    main()
