"""Why no broker could be reached, in the words of whoever set it up: which setting to look at.

The client tries every server that it was given and then says only that none would do; the reason is in its log. So when
it has given up, one connection more is made here, whose own error is told.
"""

from __future__ import annotations

import socket
import ssl

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

from shared.adapters.kafka.options import KafkaOptions

_MOST_MS = 5_000
_BOOTSTRAP = "FLOTILLA_KAFKA_BOOTSTRAP"
_TLS = "FLOTILLA_KAFKA_SECURITY, FLOTILLA_KAFKA_CERTIFICATE, FLOTILLA_KAFKA_KEY"
_SASL = "FLOTILLA_KAFKA_USERNAME, FLOTILLA_KAFKA_PASSWORD, FLOTILLA_KAFKA_SASL_MECHANISM"


async def why_unreachable(options: KafkaOptions) -> str:
    """The settings to look at, and what the first server says now."""
    host, port, _ = collect_hosts(options.bootstrap)[0]
    try:
        connection = await create_conn(
            host,
            port,
            client_id="flotilla-diagnosis",
            request_timeout_ms=min(_MOST_MS, round(options.timeout_s * 1000)),
            security_protocol=options.security,
            ssl_context=options.client_arguments("").get("ssl_context"),
            sasl_mechanism=options.sasl_mechanism if options.security.startswith("SASL") else None,
            sasl_plain_username=options.username,
            sasl_plain_password=options.password,
        )
    except (OSError, KafkaError, TimeoutError) as error:
        return f"{setting_of(error, options)}: {host}:{port}: {error!r}"
    connection.close()
    return f"{_BOOTSTRAP}: {host}:{port} answers, and its brokers do not"


def setting_of(error: BaseException, options: KafkaOptions) -> str:
    """Which settings an error of a connection is about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "FLOTILLA_KAFKA_CA"
    if isinstance(error, ssl.SSLError):
        return _TLS
    if "Authentication" in type(error).__name__ or "Sasl" in type(error).__name__:
        return _SASL
    if isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        return _BOOTSTRAP
    # A listener that expects another protocol, or a certificate, closes or says nothing.
    return f"{_BOOTSTRAP}, {_TLS if options.security == 'SSL' else 'FLOTILLA_KAFKA_SECURITY'}"
