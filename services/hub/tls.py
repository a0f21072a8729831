"""The certificate of `/admit`: given by files, or made at start and trusted through the webhook's caBundle alone."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Made anew at each start; no process is meant to run for so long.
_LIFETIME = dt.timedelta(days=1825)
# Clocks of API servers may be behind.
_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ServerTls:
    context: ssl.SSLContext
    authority: bytes


def from_files(certificate: Path, key: Path, authority: Path | None) -> ServerTls:
    """Raises OSError or ssl.SSLError."""
    context = _context(certificate, key)
    return ServerTls(context, (authority or certificate).read_bytes())


def self_signed(host: str, url: str) -> ServerTls:
    """For the address that is served and the host by which the API server calls it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "flotilla-hub")])
    names = dict.fromkeys([host, urlsplit(url).hostname or host, "localhost", "127.0.0.1"])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The ssl module reads keys from files only: a directory that only this user can enter, for a moment.
    with tempfile.TemporaryDirectory(prefix="flotilla-hub-") as directory:
        paths = Path(directory) / "tls.crt", Path(directory) / "tls.key"
        for path, content in zip(paths, (pem, secret), strict=True):
            path.write_bytes(content)
        return ServerTls(_context(*paths), pem)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
