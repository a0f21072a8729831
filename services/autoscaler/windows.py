"""The faust application: reads `fleet.metrics` as it comes, and hands each record on (docs/adr/0023).

Nothing here may be lost that the next sample would not put right. Of faust it uses a stream and an agent: topics are
there before it begins, values are raw bytes that our own models judge, whatever goes wrong is handled within the agent,
and there is one worker. It has a consumer group for each life, from the end of the topic: a group that two lives shared
would divide the clusters among them, or wait for the former to be gone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import faust
from faust.auth import SASLCredentials, SSLCredentials

from shared.adapters.kafka import KafkaOptions
from shared.adapters.kafka.metrics import LAG
from shared.events.topics import METRICS, SOLE_WRITERS
from shared.observability.logs import get_logger
from shared.ports.event_log import LogError, Record
from shared.runtime.ids import new_id

log = get_logger(__name__)

_STOP_S = 5.0
_START_S = 30.0
# What its lag is called in the metrics, beside the readers of the log adapter.
_READER = "autoscaler-windows"

Take = Callable[[Record], None]


class Windows(Protocol):
    """Where samples come from."""

    def open(self, take: Take, /) -> AbstractAsyncContextManager[None]:
        """`take` gets every record of `fleet.metrics` that comes from now on. Raises LogError."""


class FaustWindows:
    def __init__(self, options: KafkaOptions) -> None:
        self._options = options

    @asynccontextmanager
    async def open(self, take: Take) -> AsyncIterator[None]:
        with TemporaryDirectory(prefix="flotilla-autoscaler-") as folder:
            app = self._app(folder)
            _agent(app, take)
            try:
                async with asyncio.timeout(_START_S):
                    await app.start()
                    while not app.consumer.assignment():  # noqa: ASYNC110 - faust has no event for it
                        await asyncio.sleep(0.05)
                yield
            except TimeoutError as error:
                raise LogError(f"faust did not begin within {_START_S:.0f} s") from error
            finally:
                await _stop(app)

    def _app(self, folder: str) -> Any:
        options = self._options
        brokers = ";".join(f"kafka://{server.strip()}" for server in options.bootstrap.split(","))
        return faust.App(
            f"{SOLE_WRITERS['autoscaler']}-{new_id()}",
            broker=brokers,
            broker_credentials=_credentials(options),
            store="memory://",
            datadir=folder,
            consumer_auto_offset_reset="latest",
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            web_enabled=False,
            autodiscover=False,
            logging_config=None,
            loop=asyncio.get_running_loop(),
        )


def _agent(app: Any, take: Take) -> None:
    behind: dict[int, int] = {}
    topic = app.topic(METRICS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def samples(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            record = Record(
                message.topic,
                message.partition,
                message.offset,
                round(message.timestamp * 1000),
                message.key,
                message.value,
                tuple((message.headers or {}).items()) if isinstance(message.headers, dict) else message.headers or (),
            )
            try:
                take(record)
            except Exception:
                # An exception in an agent acknowledges its event and ends the agent: the next sample puts it right.
                log.exception("sample failed", position=str(record.position))
            end = app.consumer.highwater(message.tp) or 0
            behind[record.partition] = max(0, end - record.offset - 1)
            LAG.labels(_READER, record.topic).set(sum(behind.values()))

    app.agent(topic, concurrency=1)(samples)


def _credentials(options: KafkaOptions) -> Any:
    context: ssl.SSLContext | None = options.client_arguments("").get("ssl_context")
    if options.security.startswith("SASL"):
        return SASLCredentials(
            username=options.username,
            password=options.password,
            mechanism=options.sasl_mechanism,
            ssl_context=context,
        )
    return SSLCredentials(context=context) if context is not None else None


async def _stop(app: Any) -> None:
    """Without a broker it would wait for one."""
    try:
        async with asyncio.timeout(_STOP_S):
            await app.stop()
    except TimeoutError:
        log.warning("faust did not stop in time", seconds=_STOP_S)
