"""A client's call that never returns must not hold up its service for good."""

import threading
import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from services.runtime.transactions import within


def test_a_call_that_never_returns_times_out() -> None:
    """After the given time the caller goes on, told that it timed out, whatever the call still does."""
    release, began = threading.Event(), time.monotonic()
    with pytest.raises(KafkaException) as raised:
        within(0.05, lambda: release.wait() and None)
    release.set()
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
    assert time.monotonic() - began < 30


def test_what_a_call_raises_is_raised() -> None:
    """An error is the caller's, as it was raised."""
    error = KafkaException(KafkaError(KafkaError.INVALID_PRODUCER_EPOCH))

    def fail() -> None:
        raise error

    with pytest.raises(KafkaException) as raised:
        within(30, fail)
    assert raised.value is error


def test_a_call_is_done_when_it_returns() -> None:
    """Its effects are there, and nothing is said."""
    done: list[int] = []
    within(30, lambda: done.append(1))
    assert done == [1]
