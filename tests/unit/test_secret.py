"""A secret is shown to whoever asks for it by name, and by nothing else."""

import copy
import pickle
import traceback

import msgspec
import pytest

from services.runtime.secret import Secret
from services.runtime.settings import Settings

WORD = "hunter22"


def test_it_is_never_shown() -> None:
    """No way to make text of it, or of what holds it, gives the text; `reveal` does."""
    secret, settings = Secret(WORD), Settings(broker_password=Secret(WORD))
    for one in (secret, [secret], {"password": secret}, settings):
        for shown in (repr(one), str(one), ascii(one), f"{one}", f"{one!r:>12}", "%s %r" % (one, one)):  # noqa: UP031 - one way of many
            assert WORD not in shown
    assert f"{secret:}" == str(secret) == "***"
    assert settings.broker_password.reveal() == WORD


def test_it_is_written_nowhere() -> None:
    """Neither JSON nor a pickle of it, nor of what holds it, can be made, and the refusal does not name it."""
    for write in (msgspec.json.encode, pickle.dumps, copy.deepcopy):
        for one in (Secret(WORD), Settings(broker_password=Secret(WORD))):
            with pytest.raises((TypeError, NotImplementedError)) as refused:
                write(one)
            assert WORD not in "".join(traceback.format_exception(refused.value))


def test_settings_without_one_may_go_to_another_process() -> None:
    """What is empty is no secret."""
    assert pickle.loads(pickle.dumps(Settings(stream="s"))) == Settings(stream="s")  # noqa: S301 - our own bytes


def test_two_are_the_same_if_their_texts_are() -> None:
    """It can be compared, and be empty; what is the same text but no secret is another thing."""
    assert Secret(WORD) == Secret(WORD)
    assert hash(Secret(WORD)) == hash(Secret(WORD))
    assert Secret(WORD) != Secret("hunter23")
    assert Secret(WORD) != WORD
    assert not Secret()
    assert Secret(WORD)


def test_a_setting_is_read_as_one() -> None:
    """The variable's text is the secret's."""
    settings = Settings.load("features", {"THALWEG_BROKER_PASSWORD": WORD})
    assert settings.broker_password == Secret(WORD)
    assert WORD not in f"{settings} {settings!r}"
