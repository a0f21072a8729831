"""Certificates and kubeconfigs of a test cluster, as an installer of a real one makes them.

One authority signs the API server, its clients and the aggregator's proxy client; the service account tokens have a
key of their own. Everything is made anew for each cluster, lives in its data directory and lasts a week.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR: Final = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a PEM certificate and of its key."""

    certificate: Path
    key: Path


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new P-256 key, readable by this user only; in SEC 1 form, the one that Kubernetes reads token keys in."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return key


class Authority:
    """A certificate authority whose files are in one directory."""

    def __init__(self, directory: Path, common_name: str) -> None:
        directory.mkdir(mode=0o700, parents=True)
        self._directory = directory
        self._key = write_key(directory / "ca.key")
        self._name = _subject(common_name)
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.files = KeyPair(directory / "ca.crt", directory / "ca.key")
        self.files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def client(self, user: str, groups: Sequence[str] = ()) -> KeyPair:
        """A client certificate: Kubernetes reads the user from CN and the groups from O."""
        return self._issue(user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, names=())

    def server(self, common_name: str, names: Sequence[str]) -> KeyPair:
        """A server certificate for DNS names and IP addresses."""
        return self._issue(common_name, (), ExtendedKeyUsageOID.SERVER_AUTH, names)

    def _issue(
        self, common_name: str, groups: Sequence[str], purpose: x509.ObjectIdentifier, names: Sequence[str]
    ) -> KeyPair:
        stem = common_name.replace(":", "-")
        files = KeyPair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        key = write_key(files.key)
        builder = (
            _builder(_subject(common_name, groups), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return files


def write_kubeconfig(path: Path, *, cluster: str, server: str, authority: Path, user: str, client: KeyPair) -> None:
    """A kubeconfig that embeds its certificates, with the cluster's name as context."""

    def embedded(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": embedded(authority)}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": embedded(client.certificate),
                    "client-key-data": embedded(client.key),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def _subject(common_name: str, groups: Sequence[str] = ()) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))  # clocks of one machine may still be stepped
        .not_valid_after(now + VALID_FOR)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
