"""How to reach the brokers: one value, from which every client of aiokafka takes its arguments."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final

from shared.adapters.tls import ClientTls
from shared.ports.event_log import LogError

_REPLICATED: Final = 3


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """`timeout_s` is the deadline of one request and of a delivery; `connect_s` that of the first connection."""

    bootstrap: str = "127.0.0.1:9092"
    security: str = "PLAINTEXT"
    ca: str = ""
    certificate: str = ""
    key: str = ""
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: str = ""
    replication: int = 1
    timeout_s: float = 30.0
    connect_s: float = 60.0

    def topic_arguments(self) -> dict[str, str]:
        """What topics are created with besides: of three copies two acknowledge, whatever the broker's default.

        With one, a record that was acknowledged is lost together with the one broker that had it.
        """
        return {"min.insync.replicas": str(self.replication - 1)} if self.replication >= _REPLICATED else {}

    def client_arguments(self, client_id: str) -> dict[str, Any]:
        """Keyword arguments that producer, consumer and admin client share. Raises LogError for unreadable files."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": client_id,
            "security_protocol": self.security,
            "request_timeout_ms": round(self.timeout_s * 1000),
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 30_000,
        }
        if self.security.endswith("SSL"):
            arguments["ssl_context"] = self._tls()
        if self.security.startswith("SASL"):
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.username
            arguments["sasl_plain_password"] = self.password
        return arguments

    def _tls(self) -> ssl.SSLContext:
        try:
            return ClientTls.opened(self.ca, self.certificate, self.key, settings="FLOTILLA_KAFKA")
        except OSError as error:
            raise LogError(str(error)) from error
