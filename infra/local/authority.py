"""A certificate authority for one start of what listens here: its key is forgotten once a server's is signed."""

import datetime as dt
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BROKER = "thalweg-broker"  # the subject: by it brokers know each other
VALID = dt.timedelta(days=365)
HERE = ("localhost", "127.0.0.1")


class Certificates(NamedTuple):
    """PEM files: the authority's certificate, a server's key, its chain, and both of these in one."""

    authority: Path
    key: Path
    chain: Path
    both: Path


def issue(folder: Path, names: tuple[str, ...] = HERE) -> Certificates:
    """Make an authority, and have it sign a certificate for a server of these names and addresses."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Certificates(*(folder / f"{name}.pem" for name in Certificates._fields))
    root, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _certificate("thalweg local authority", root, root, None, ())
    signed = _certificate(BROKER, key, root, authority.subject, names)
    _write(files.authority, _pem(authority))
    _write(files.key, _private(key))
    _write(files.chain, _pem(signed) + _pem(authority))
    _write(files.both, _private(key) + _pem(signed) + _pem(authority))
    return files


def serial(chain: Path) -> int:
    """Return the serial number of the first certificate in a file."""
    return x509.load_pem_x509_certificate(chain.read_bytes()).serial_number


def _certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    by: EllipticCurvePrivateKey,
    issuer: x509.Name | None,
    names: tuple[str, ...],
) -> x509.Certificate:
    """Sign a certificate; one without an issuer is its own, and an authority's."""
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if issuer is not None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        known_as = x509.SubjectAlternativeName([_named(one) for one in names])
        made = made.add_extension(usage, critical=False).add_extension(known_as, critical=False)
    return made.sign(by, hashes.SHA256())


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: EllipticCurvePrivateKey) -> bytes:
    pkcs8, bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, bare)


def _write(file: Path, content: bytes) -> None:
    """Write it for this user alone."""
    file.unlink(missing_ok=True)
    file.touch(0o600)
    file.write_bytes(content)
