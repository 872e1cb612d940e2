"""How a client and the broker know each other, from the settings alone: TLS, and a user with a password (SASL/SCRAM).

`clients.py` gives it to every client of librdkafka, drift's app to those of aiokafka. A user logs in over TLS only, or
on this machine: anywhere else whoever listens could try passwords against it, and read all that follows.
"""

import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any, NamedTuple

from services.runtime.errors import ConfigError
from services.runtime.secret import Secret
from services.runtime.settings import Settings
from services.runtime.tls import trust

MECHANISM = "SCRAM-SHA-512"
LOOK_S = 3.0
ANOTHER_NAME, EXPIRED = (62, 64), 10  # X509_V_ERR_… of a host or an address, and of the time, as OpenSSL has them


class Login(NamedTuple):
    user: str
    password: Secret


def protected(settings: Settings) -> bool:
    """Whether there is anything to hold the connection to: a password alone is a mistake, and found to be one."""
    return any((settings.broker_ca, settings.broker_user, settings.broker_password, settings.broker_password_file))


def login(settings: Settings) -> Login | None:
    """Return who the client is; None if nobody. ConfigError says what is missing, or was given twice."""
    if not settings.broker_user:
        if settings.broker_password or settings.broker_password_file:
            raise ConfigError("a password for the broker and nobody whose it is: set THALWEG_BROKER_USER as well")
        return None
    if not settings.broker_ca and not _here(settings.broker):
        raise ConfigError(
            f"THALWEG_BROKER_USER would log in at {settings.broker} in the clear: set THALWEG_BROKER_CA to the PEM file"
            " of the authority that signed the brokers' certificates (without TLS a user goes to this machine only)"
        )
    return Login(settings.broker_user, _password(settings))


def trusting(settings: Settings) -> ssl.SSLContext | None:
    """Return a context that takes certificates of this authority, for the name that was dialled; None without TLS."""
    return trust("THALWEG_BROKER_CA", settings.broker_ca) if settings.broker_ca else None


def of_librdkafka(settings: Settings) -> dict[str, Any]:
    """Return what makes a client of librdkafka one with TLS and a user, and nothing for one without."""
    who, secure = login(settings), trusting(settings) is not None
    found: dict[str, Any] = {}
    if secure or who:
        found["security.protocol"] = ("SASL_" if who else "") + ("SSL" if secure else "PLAINTEXT")
    if secure:
        found["ssl.ca.location"] = settings.broker_ca
    if who is not None:
        found |= {"sasl.mechanism": MECHANISM, "sasl.username": who.user, "sasl.password": who.password.reveal()}
    return found


def remedy(settings: Settings, said: str) -> str | None:
    """Return what a person has to do about what librdkafka says of a broker it can't come to terms with.

    None if it speaks of something else.
    """
    low = said.lower()
    if "certificate verify failed" in low or "certificate could not be verified" in low:
        return (
            f"the certificate of a broker does not hold: it is not signed by the authority in {settings.broker_ca}, or"
            " is for another name than the one that was dialled (advertised listeners count as well), or has expired"
        )
    if "ssl handshake failed" in low:
        return f"the broker at {settings.broker} does not speak TLS there: dial its TLS listener"
    if "incorrect security.protocol" in low or "sasl authentication error: failed to" in low:
        return f"the broker at {settings.broker} expects another protocol: a listener of SASL_SSL needs a CA and a user"
    if "authentication" in low:
        return (
            f"the broker refuses user {settings.broker_user!r}: correct THALWEG_BROKER_USER and its password, or create"
            f" the user ({MECHANISM})"
        )
    return None


def examine(settings: Settings) -> str | None:
    """Return what is wrong with the certificate that a broker shows, and what to do; None if nothing is to be seen."""
    context = trusting(settings)
    if context is None:
        return None
    for address in settings.broker.split(","):
        try:
            _shake_hands(context, address)
        except ssl.SSLCertVerificationError as error:
            return _fault(settings, address, error)
        except (OSError, ValueError):
            continue
    return None


def _shake_hands(context: ssl.SSLContext, address: str) -> None:
    host, _, port = address.rpartition(":")
    name = host.strip("[]")
    with socket.create_connection((name, int(port)), LOOK_S) as raw:
        context.wrap_socket(raw, server_hostname=name).close()


def _fault(settings: Settings, address: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in ANOTHER_NAME:
        return (
            f"the certificate of the broker at {address} is for another name: dial a name that it is for, or issue one"
            " with this name (subjectAltName); the names of its advertised listeners count as well"
        )
    if error.verify_code == EXPIRED:
        return f"the certificate of the broker at {address} has expired: give it a new one"
    return (
        f"the certificate of the broker at {address} is not signed by the authority in {settings.broker_ca}"
        f" ({error.verify_message}): set THALWEG_BROKER_CA to the one that has signed it"
    )


def _password(settings: Settings) -> Secret:
    file = settings.broker_password_file
    if bool(settings.broker_password) == bool(file):
        found = "both THALWEG_BROKER_PASSWORD and THALWEG_BROKER_PASSWORD_FILE" if file else "no password"
        raise ConfigError(f"THALWEG_BROKER_USER is {settings.broker_user!r}: found {found}, expected one of the two")
    if not file:
        return settings.broker_password
    try:
        secret = Secret(Path(file).read_text().removesuffix("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"THALWEG_BROKER_PASSWORD_FILE: {file} can't be read: {type(error).__name__}") from None
    if not secret:
        raise ConfigError(f"THALWEG_BROKER_PASSWORD_FILE: {file} is empty, expected a password")
    return secret


def _here(addresses: str) -> bool:
    """Whether all of them are this machine's own."""
    return all(_loopback(address.rpartition(":")[0].strip("[]")) for address in addresses.split(","))


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
