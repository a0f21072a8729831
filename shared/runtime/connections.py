"""From settings to open connections, closed behind the service by its exit stack."""

from __future__ import annotations

from contextlib import AsyncExitStack

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.runtime.settings import CommonSettings


def kafka_options(settings: CommonSettings) -> KafkaOptions:
    return KafkaOptions(
        bootstrap=settings.kafka_bootstrap,
        security=settings.kafka_security,
        ca=settings.kafka_ca,
        certificate=settings.kafka_certificate,
        key=settings.kafka_key,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.kafka_password.get_secret_value(),
        replication=settings.kafka_replication,
        timeout_s=settings.kafka_timeout_s,
    )


async def open_log(settings: CommonSettings, client_id: str, stack: AsyncExitStack) -> KafkaLog:
    """A connection to the log. Raises LogError if no broker answers within the deadline."""
    log = await KafkaLog.connect(kafka_options(settings), client_id)
    stack.push_async_callback(log.close)
    return log
