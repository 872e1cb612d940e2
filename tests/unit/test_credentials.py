"""What lets a client into a broker: which settings go together, and what is said where they do not."""

import datetime as dt
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from infra.local import access, authority
from services.drift.transport import credentials
from services.runtime.credentials import examine, login, of_librdkafka, protected, remedy, trusting
from services.runtime.errors import ConfigError
from services.runtime.secret import Secret
from services.runtime.settings import Settings

FAR, NEAR = "kafka.example:9093", "127.0.0.1:9093"
WORD = Secret("hunter22")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(authority.issue(tmp_path_factory.mktemp("ca")).authority)


def test_without_settings_a_client_is_open() -> None:
    """Nothing is needed for a broker that is open."""
    assert of_librdkafka(Settings()) == {}
    assert credentials(Settings()) is None
    assert not protected(Settings())


def test_an_authority_alone_is_tls(ca: str) -> None:
    """With an authority the connection is TLS and nobody logs in."""
    settings = Settings(broker=FAR, broker_ca=ca)
    assert of_librdkafka(settings) == {"security.protocol": "SSL", "ssl.ca.location": ca}
    found = credentials(settings)
    assert found is not None
    assert found.protocol.value == "SSL"
    assert protected(settings)


def test_a_user_logs_in_over_tls(ca: str) -> None:
    """Both clients get the same: TLS that checks the name which was dialled, the mechanism, the user, the password."""
    settings = Settings(broker=FAR, broker_ca=ca, broker_user="flights.drift", broker_password=WORD)
    assert of_librdkafka(settings) == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": ca,
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "flights.drift",
        "sasl.password": "hunter22",
    }
    found = credentials(settings)
    assert (found.protocol.value, found.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")  # type: ignore[union-attr]
    assert (found.username, found.password) == ("flights.drift", "hunter22")  # type: ignore[union-attr]
    context = trusting(settings)
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert "hunter22" not in repr(found)


def test_a_password_comes_from_a_file_as_well(ca: str, tmp_path: Path) -> None:
    """The file's text is the password but for one line's end, and a new password is read by the next client."""
    file = tmp_path / "password"
    settings = Settings(broker=FAR, broker_ca=ca, broker_user="u", broker_password_file=str(file))
    for word in ("first ", "second"):
        file.write_text(f"{word}\n")
        assert of_librdkafka(settings)["sasl.password"] == word


@pytest.mark.parametrize("broker", [FAR, f"{NEAR},{FAR}", "127.0.0.1.example:1", "10.0.0.1:1", "[fe80::1]:1"])
def test_nobody_logs_in_over_the_network_in_the_clear(broker: str) -> None:
    """A user without TLS is refused unless every address is this machine's own."""
    settings = Settings(broker=broker, broker_user="u", broker_password=WORD)
    with pytest.raises(ConfigError, match=r"in the clear: set THALWEG_BROKER_CA") as refused:
        of_librdkafka(settings)
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize("broker", [NEAR, f"localhost:1,{NEAR}", "[::1]:9093", "127.8.8.8:1"])
def test_on_this_machine_a_user_may_log_in_without_tls(broker: str) -> None:
    """Where nobody else listens, SASL alone will do."""
    settings = Settings(broker=broker, broker_user="u", broker_password=WORD)
    assert of_librdkafka(settings)["security.protocol"] == "SASL_PLAINTEXT"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"broker_user": "u"}, "found no password, expected one of the two"),
        ({"broker_user": "u", "broker_password": WORD, "broker_password_file": "f"}, "found both THALWEG_BROKER_PASSW"),
        ({"broker_password": WORD}, "set THALWEG_BROKER_USER as well"),
        ({"broker_password_file": "f"}, "set THALWEG_BROKER_USER as well"),
        (
            {"broker_user": "u", "broker_password_file": "/no/such"},
            "PASSWORD_FILE: /no/such can't be read: File",
        ),
        ({"broker_user": "u", "broker_password_file": "/dev/null"}, "/dev/null is empty, expected a password"),
        ({"broker_ca": "/no/such"}, "THALWEG_BROKER_CA: found no file /no/such, expected a PEM file"),
        ({"broker_ca": __file__}, "test_credentials.py holds no certificate in PEM"),
    ],
)
def test_settings_that_do_not_go_together_are_named(given: dict[str, object], said: str) -> None:
    """Each mistake is one message that names the variable and what would be right, and never the password."""
    with pytest.raises(ConfigError) as refused:
        of_librdkafka(access.settings(NEAR, given))  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "hunter22" not in str(refused.value)


def test_login_says_who() -> None:
    """A login is the user and the password; none without a user."""
    assert login(Settings()) is None
    who = login(Settings(broker_user="u", broker_password=WORD))
    assert who is not None
    assert (who.user, who.password) == ("u", WORD)
    assert "hunter22" not in repr(who)


REFUSED = """sasl_ssl://b:1/bootstrap: SASL authentication error: Authentication failed during authentication due to\
 invalid credentials with SASL mechanism SCRAM-SHA-512 (after 362ms in state AUTH_REQ)"""  # as librdkafka 2.16 says it
UNTRUSTED = """sasl_ssl://b:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed:\
 broker certificate could not be verified, verify that ssl.ca.location is correctly configured"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (REFUSED, "the broker refuses user 'u': correct THALWEG_BROKER_USER and its password"),
        (UNTRUSTED, "is not signed by the authority in ca.pem, or is for another name than"),
        ("1/1 brokers are down", None),
        ("Connect to ipv4#127.0.0.1:1 failed: Connection refused", None),
    ],
)
def test_what_librdkafka_says_becomes_what_to_do(said: str, told: str | None) -> None:
    """An error of TLS or of the login is told as what a person has to do; a broker that is away is not one."""
    found = remedy(Settings(broker=FAR, broker_ca="ca.pem", broker_user="u", broker_password=WORD), said)
    assert found == told if told is None else told in str(found)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("authority", r"is not signed by the authority in .*/other/authority.pem \(.+\): set THALWEG_BROKER_CA"),
        ("name", r"the broker at 127.0.0.1:\d+ is for another name: dial a name that it is for"),
        ("expired", r"has expired: give it a new one"),
        ("", ""),
    ],
)
def test_a_certificate_that_does_not_hold_is_examined(
    wrong: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with a broker's certificate is found by looking at it, and told apart."""
    if wrong == "expired":
        monkeypatch.setattr(authority, "VALID", dt.timedelta(minutes=-1))
    shown = authority.issue(tmp_path / "shown", ("elsewhere",) if wrong == "name" else authority.HERE)
    monkeypatch.undo()
    trusted = authority.issue(tmp_path / "other") if wrong == "authority" else shown
    with served(shown.both) as port:
        settings = Settings(broker=f"127.0.0.1:{port}", broker_ca=str(trusted.authority))
        found = examine(settings)
    assert found is None if not told else re.search(told, str(found)), found
    assert examine(settings) is None  # nobody is there any more


@contextmanager
def served(certificate: Path) -> Iterator[int]:
    """Shake hands, with this certificate, with whoever comes; return the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shake() -> None:
            with suppress(OSError):
                context.wrap_socket(server.accept()[0], server_side=True).close()

        thread = threading.Thread(target=shake)
        thread.start()
        yield server.getsockname()[1]
        thread.join()
