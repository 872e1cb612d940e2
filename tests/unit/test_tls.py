"""TLS of what listens: the pair is checked at the start, and another one is taken only when it is whole."""

import ssl
from pathlib import Path

import pytest

from infra.local import authority
from services.runtime.errors import ConfigError
from services.runtime.tls import Tls, tls_of


def served(tls: Tls) -> int:
    """Return the serial number of the certificate that a client is shown: a handshake in memory."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = tls.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = asking.getpeercert(binary_form=True)
    assert shown is not None
    from cryptography import x509  # noqa: PLC0415 - here alone

    return x509.load_der_x509_certificate(shown).serial_number


def certify(folder: Path) -> int:
    """Have a pair there, or another one; return the certificate's serial number."""
    return authority.serial(authority.issue(folder).chain)


def tls(folder: Path) -> Tls:
    found = tls_of(str(folder / "chain.pem"), str(folder / "key.pem"))
    assert found is not None
    return found


def test_a_new_pair_is_taken_and_half_of_one_is_not(tmp_path: Path) -> None:
    """After `renew` clients are shown the new certificate; one that does not fit the key changes nothing."""
    first = certify(tmp_path)
    serving = tls(tmp_path)
    assert served(serving) == first
    key = (tmp_path / "key.pem").read_bytes()
    second = certify(tmp_path)
    (tmp_path / "key.pem").write_bytes(key)
    serving.renew()
    assert served(serving) == first
    third = certify(tmp_path)
    serving.renew()
    assert served(serving) == third != second
    (tmp_path / "key.pem").unlink()
    serving.renew()
    assert served(serving) == third


def test_what_is_no_pair_is_refused_at_the_start(tmp_path: Path) -> None:
    """One without the other, files that are not there, and a key that is another's: ConfigError."""
    assert tls_of("", "") is None
    for half in (("a", ""), ("", "a")):
        with pytest.raises(ConfigError, match="both"):
            tls_of(*half)
    with pytest.raises(ConfigError, match="no certificate"):
        tls(tmp_path)
    certify(tmp_path)
    key = (tmp_path / "key.pem").read_bytes()
    certify(tmp_path)
    (tmp_path / "key.pem").write_bytes(key)
    with pytest.raises(ConfigError, match="no certificate"):
        tls(tmp_path)


def test_old_versions_are_not_spoken(tmp_path: Path) -> None:
    """TLS 1.2 is the least."""
    certify(tmp_path)
    assert tls(tmp_path).context.minimum_version == ssl.TLSVersion.TLSv1_2
