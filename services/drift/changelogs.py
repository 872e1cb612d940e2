"""The changelog topics of the tables: what a table is made of again after a crash. They are made here, not by Faust.

Faust would ask for one replica each, and names them in its own way. Here the broker says how many replicas there are.
"""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from services.runtime.clients import client
from services.runtime.errors import Stop
from services.runtime.kafka import ask
from services.runtime.settings import Settings
from services.runtime.stream import LARGEST_MESSAGE

CONFIG = {
    "cleanup.policy": "compact",
    "retention.ms": "-1",
    "max.message.bytes": str(LARGEST_MESSAGE),
    "segment.ms": "600000",  # what is overwritten is cleared away within minutes
    "min.cleanable.dirty.ratio": "0.1",
}
ANSWER_S = 10


def create(settings: Settings, partitions: Mapping[str, int]) -> None:
    """Create those topics that are missing, and wait until they can be seen."""
    admin = AdminClient(client(settings))
    wanted = [NewTopic(name, num_partitions=number, config=CONFIG) for name, number in partitions.items()]
    for future in admin.create_topics(wanted, request_timeout=ANSWER_S).values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Stop(f"a changelog topic of drift can't be made: {error.args[0].str()}") from error
    ask("the changelogs of drift", lambda: _all_seen(admin, partitions))


def _all_seen(admin: AdminClient, partitions: Mapping[str, int]) -> None:
    known = admin.list_topics(timeout=ANSWER_S).topics
    if missing := sorted(set(partitions) - set(known)):
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"not to be seen yet: {missing}"))
    for name, number in partitions.items():
        if len(known[name].partitions) != number:
            raise Stop(
                f"{name} has {len(known[name].partitions)} partitions and its source {number}: remove it, the state"
                " is folded again from the log"
            )
