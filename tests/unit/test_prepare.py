"""What a stack needs before its services: which answers of a cluster mean that a topic is there."""

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.images.prepare import settled


def answer(code: int | None) -> Future[None]:
    """Return what a broker says of a topic that it was asked to make."""
    said: Future[None] = Future()
    if code is None:
        said.set_result(None)
    else:
        said.set_exception(KafkaException(KafkaError(code)))
    return said


@pytest.mark.parametrize("code", [None, KafkaError.TOPIC_ALREADY_EXISTS])
def test_a_topic_is_there_if_it_was_made_now_or_before(code: int | None) -> None:
    """`prepare` may run again."""
    assert settled("events", answer(code), last=False)


def test_a_cluster_that_lacks_a_node_is_asked_again_until_it_is_too_late() -> None:
    """Two nodes of three answer, and take no topic of three replicas: that is no failure before the last try."""
    few = KafkaError.INVALID_REPLICATION_FACTOR
    assert not settled("events", answer(few), last=False)
    with pytest.raises(KafkaException):
        settled("events", answer(few), last=True)


def test_any_other_answer_is_a_failure() -> None:
    """What no waiting mends ends the container at once."""
    with pytest.raises(KafkaException):
        settled("events", answer(KafkaError.INVALID_CONFIG), last=False)
