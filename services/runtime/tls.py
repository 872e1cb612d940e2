"""TLS for what listens, a certificate and its key, read again when their files change, without a restart; and trust.

Connections that are open go on with what they began with. A pair that does not fit, as between the writing of the one
and of the other, is not taken: the one before stays in force until there is a good one.
"""

import logging
import ssl
from pathlib import Path
from typing import TypeAlias

from services.runtime.errors import ConfigError

log = logging.getLogger(__name__)
_Seen: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class Tls:
    """A server's side of TLS 1.2 and above. `certificate` may be a chain, the server's own first; both are PEM."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self._seen = self._look()
        self.context = self._read()

    def renew(self) -> None:
        """Read the files again if they have changed."""
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._read()
        except ConfigError as error:
            log.error("%s; the certificate that was read before stays in force", error)  # noqa: TRY400 - the file's fault
            return
        self.context.load_cert_chain(self._certificate, self._key)
        log.info("the certificate in %s was read again", self._certificate)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{self._certificate}, {self._key}: no certificate and its key, as PEM: {error}"
            ) from error
        return context

    def _look(self) -> _Seen:
        return tuple(_state(path) for path in (self._certificate, self._key))


def tls_of(certificate: str, key: str) -> Tls | None:
    """Return the TLS that these settings ask for; ConfigError if there is one of both without the other."""
    if bool(certificate) != bool(key):
        raise ConfigError("TLS needs both a certificate and its key, or neither: one of the two settings is missing")
    return Tls(Path(certificate), Path(key)) if certificate else None


def trust(variable: str, authority: str) -> ssl.SSLContext:
    """Return a client's side: it takes certificates for the name that was dialled, of the authority in this file.

    Without a file the authorities of this machine count. ConfigError names the variable that the file is from.
    """
    if authority and not Path(authority).is_file():
        raise ConfigError(f"{variable}: found no file {authority}, expected a PEM file of certificates")
    try:
        return ssl.create_default_context(cafile=authority or None)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{variable}: {authority} holds no certificate in PEM that can be read: {error}") from error


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
