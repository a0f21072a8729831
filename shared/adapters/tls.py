"""A client's TLS by files that are renewed while it runs, as Strimzi, cert-manager and a kubelet do it.

A client library takes one context and opens connections with it for as long as it lives. This one looks at its files
before each handshake and reads again what has changed, so that a certificate that ended ends no service. What cannot be
read is told and tried again at the next handshake; what was there before stays. Authorities are only added: one that is
not in the file any more is trusted until the process ends.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Self

from shared.adapters.files import Fingerprint, fingerprint
from shared.observability.logs import get_logger

log = get_logger(__name__)


class ClientTls(ssl.SSLContext):
    """Verifies the server and its name. `ca` is a file of authorities, or empty for those of the system.

    `trust` and `identify` read the files for the first time; they raise OSError, of which ssl.SSLError is one.
    """

    def __new__(cls, *_: str) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, ca: str = "", certificate: str = "", key: str = "") -> None:
        self._ca, self._certificate, self._key = ca, certificate, key
        self._trusted: Fingerprint = ()
        self._identified: Fingerprint = ()

    def trust(self) -> None:
        if not self._ca:
            self.load_default_certs()
            return
        seen = fingerprint([Path(self._ca)])
        self.load_verify_locations(self._ca)
        self._trusted = seen

    def identify(self) -> None:
        if not self._certificate:
            return
        seen = fingerprint(self._pair)
        # A context whose new certificate does not fit the key has lost its old one: so it is tried by another first.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self._certificate, self._key or None)
        self.load_cert_chain(self._certificate, self._key or None)
        self._identified = seen

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """What begins every handshake of asyncio's."""
        self._renew()
        return super().wrap_bio(*arguments, **named)

    def _renew(self) -> None:
        try:
            if self._ca and fingerprint([Path(self._ca)]) != self._trusted:
                self.trust()
                log.info("authorities read again", file=self._ca)
            if self._certificate and fingerprint(self._pair) != self._identified:
                self.identify()
                log.info("certificate read again", file=self._certificate)
        except OSError as error:
            log.warning("renewed files of TLS cannot be read", error=str(error))

    @classmethod
    def opened(cls, ca: str, certificate: str, key: str, *, settings: str) -> Self:
        """With its files read. Raises OSError, whose text begins with the names of the settings to look at:
        `settings`, as `FLOTILLA_KAFKA`, begins them.
        """
        context = cls(ca, certificate, key)
        try:
            context.trust()
        except OSError as error:
            raise OSError(f"{settings}_CA: {ca}: {error}") from error
        try:
            context.identify()
        except OSError as error:
            raise OSError(f"{settings}_CERTIFICATE, {settings}_KEY: {certificate}, {key}: {error}") from error
        return context

    @property
    def _pair(self) -> list[Path]:
        return [Path(name) for name in (self._certificate, self._key) if name]
