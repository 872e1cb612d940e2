"""How commands get into a run's broker: what a run leaves behind for them, and what it never does."""

import os
from pathlib import Path

import msgspec
import pytest

from infra.local import access
from infra.local.stack import Options, Running
from services.runtime.secret import Secret

ENVIRONMENT = {
    "THALWEG_BROKER_CA": "ca.pem",
    "THALWEG_BROKER_USER": "u",
    "THALWEG_BROKER_PASSWORD": "hunter22",
    "A": "1",
}


def test_a_password_is_never_left_behind() -> None:
    """What a run writes down for other commands has all but the password; these take it from their environment."""
    found = access.from_environment(ENVIRONMENT)
    left = access.to_leave(found)
    assert left == {"broker_ca": "ca.pem", "broker_user": "u"}
    assert "hunter22" not in msgspec.json.encode(left).decode() + repr(found)
    assert access.again(left, ENVIRONMENT) == found
    assert access.again(left, {}) == left


def test_the_environment_of_another_broker_changes_nothing() -> None:
    """A run whose user has a file, or that has no user, is got into as it was left."""
    guarded = access.of_user("a.pem", "flights.operator", "file")
    assert access.again(access.to_leave(guarded), ENVIRONMENT) == guarded
    assert access.again({}, ENVIRONMENT) == {}


def test_a_service_gets_what_the_launcher_has() -> None:
    """The variables of a service say the same; what stands in the launcher's own environment does not come along."""
    found = access.from_environment(ENVIRONMENT)
    assert access.to_environment(found) == {name: word for name, word in ENVIRONMENT.items() if name != "A"}
    assert access.without(ENVIRONMENT) == {"A": "1"}


def test_a_run_is_connected_to_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a run that is up are its broker's, its stream's and the access that it has left."""
    monkeypatch.setattr(os, "environ", ENVIRONMENT)
    running = Running(1, "b:1", "", str(tmp_path), {}, access={"broker_ca": "ca.pem", "broker_user": "u"})
    settings = running.settings("bikes")
    assert (settings.broker, settings.stream, settings.data) == ("b:1", "bikes", tmp_path)
    assert settings.broker_password == Secret("hunter22")


def test_only_apache_kafka_can_be_guarded() -> None:
    """The embedded broker has no TLS, and a cluster of others is as it is: asked for, it is refused."""
    for broker in ("embedded", "kafka.example:9093"):
        with pytest.raises(ValueError, match=r"--guarded needs --broker kafka"):
            Options("flights", broker=broker, guarded=True)
    assert Options("flights", broker="kafka", guarded=True).guarded
