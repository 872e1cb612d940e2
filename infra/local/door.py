"""Ingestion as its clients on this machine meet it: where it is dialled, and whose word for its certificate counts.

Its own settings say both. The certificate must be for what is dialled: `THALWEG_INGESTION_HOST`, or 127.0.0.1 where
that is not set, or means every address.
"""

import ipaddress
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from infra.local.access import variable
from infra.local.processes import ChildDied
from services.runtime.errors import ConfigError
from services.runtime.tls import trust

READY_S = 60.0
AUTHORITY = variable("ingestion_ca")


def address(environment: Mapping[str, str], port: int) -> str:
    """Return ingestion's address, by the variables that it is started with."""
    scheme = "https" if environment.get(variable("ingestion_tls_certificate")) else "http"
    host = environment.get(variable("ingestion_host"), "")
    name = "127.0.0.1" if _everywhere(host) else f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}"


def _everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return not host


def trusted(url: str, authority: str) -> ssl.SSLContext | None:
    """Return what a client at this address trusts; None where TLS is not spoken."""
    return trust(AUTHORITY, authority) if url.startswith("https:") else None


def wait(url: str, trusting: ssl.SSLContext | None, check: Callable[[], None], log: Path) -> None:
    """Return once a service answers at this address; ChildDied if it does not, ConfigError if it can't be trusted."""
    deadline = time.monotonic() + READY_S
    while True:
        check()
        try:
            get(f"{url}/healthz", trusting, 1).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise ChildDied(f"{log.stem} does not answer after {READY_S:.0f} s; see {log}") from None
            time.sleep(0.1)
        else:
            return


def get(url: str, trusting: ssl.SSLContext | None, patience_s: float) -> httpx.Response:
    """Ask; ConfigError if who answers has a certificate that does not hold."""
    try:
        return httpx.get(url, timeout=patience_s, verify=True if trusting is None else trusting)
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            raise
        raise ConfigError(
            f"{url}: the certificate does not hold: {error}. Set {AUTHORITY} to the PEM file of the authority that"
            " signed it, and have it issued for the name or address that is dialled"
        ) from error
