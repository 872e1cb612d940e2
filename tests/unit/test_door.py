"""Where ingestion is dialled, and that a certificate which does not hold is an error that says what to do."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.local import authority, door
from infra.local.authority import Certificates
from services.console.probing import ask
from services.runtime.errors import ConfigError
from services.runtime.tls import Tls, trust

TLS = {"THALWEG_INGESTION_TLS_CERTIFICATE": "a.pem"}
READY = b'{"service": "ingestion", "status": "ready"}'


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        (TLS, "https://127.0.0.1:8080"),
        (TLS | {"THALWEG_INGESTION_HOST": "0.0.0.0"}, "https://127.0.0.1:8080"),  # noqa: S104 - what is set
        (TLS | {"THALWEG_INGESTION_HOST": "events.example.com"}, "https://events.example.com:8080"),
        ({"THALWEG_INGESTION_HOST": "::1"}, "http://[::1]:8080"),
    ],
)
def test_it_is_dialled_as_its_settings_say(environment: dict[str, str], url: str) -> None:
    """By the name that it listens to, which the certificate is for; on this machine where that is every address."""
    assert door.address(environment, 8080) == url
    assert (door.trusted(url, "") is None) == ("https" not in url)


@contextmanager
def served(certificates: Certificates) -> Iterator[str]:
    """Have a process's probe answer over TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(READY)))
            self.end_headers()
            self.wfile.write(READY)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = Tls(certificates.chain, certificates.key).context
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up is no event
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_its_authority_is_trusted_and_no_other(tmp_path: Path) -> None:
    """The launcher's client, and the console's, are answered by what the authority has signed, for the name dialled.

    Of another authority, or for another name, the launcher's says what to set, and the console's sees nobody.
    """
    good = authority.issue(tmp_path / "good")
    other, elsewhere = authority.issue(tmp_path / "other"), authority.issue(tmp_path / "elsewhere", ("another.name",))
    with served(good) as url:
        assert door.get(url, door.trusted(url, str(good.authority)), 20).content == READY
        assert ask(url, trust("", str(good.authority))) is not None
        assert ask(url, trust("", str(other.authority))) is None
        for wrong in (str(other.authority), ""):
            with pytest.raises(ConfigError, match=r"Set THALWEG_INGESTION_CA to the PEM file"):
                door.get(url, door.trusted(url, wrong), 20)
    with served(elsewhere) as url, pytest.raises(ConfigError, match=r"issued for the name or address that is dialled"):
        door.get(url, door.trusted(url, str(elsewhere.authority)), 20)


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    """Neither a file that is not there nor one without a certificate is a reason to trust anybody."""
    with pytest.raises(ConfigError, match=r"THALWEG_INGESTION_CA: found no file .*none\.pem"):
        door.trusted("https://127.0.0.1:1", str(tmp_path / "none.pem"))
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ConfigError, match=r"THALWEG_INGESTION_CA: .*empty\.pem holds no certificate"):
        door.trusted("https://127.0.0.1:1", str(tmp_path / "empty.pem"))
    assert trust("", "").verify_mode == ssl.CERT_REQUIRED
