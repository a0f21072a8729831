"""The faust application: reads `fleet.metrics` as it comes, and hands each record on (docs/adr/0023).

Nothing here may be lost that the next sample would not put right. Of faust it uses a stream and an agent: topics are
there before it begins, values are raw bytes that our own models judge, whatever goes wrong is handled within the agent,
and there is one worker. It has a consumer group for each life, from the end of the topic: a group that two lives shared
would divide the clusters among them, or wait for the former to be gone.

It lives in a thread with a loop of its own. Without a broker its `stop` may never return and its tasks may not end when
they are cancelled: then the thread is left behind, where it keeps nobody from going on, or the process from its end.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import faust
from faust.auth import SASLCredentials, SSLCredentials
from mode.threads import WorkerThread

from shared.adapters.kafka import KafkaOptions
from shared.adapters.kafka.metrics import LAG
from shared.events.topics import METRICS, SOLE_WRITERS
from shared.observability.logs import get_logger
from shared.ports.event_log import LogError, Record
from shared.runtime.ids import new_id

log = get_logger(__name__)

_STOP_S = 5.0
_START_S = 30.0
_WATCH_S = 0.5
# What its lag is called in the metrics, beside the readers of the log adapter.
_READER = "autoscaler-windows"

Take = Callable[[Record], None]


class Windows(Protocol):
    """Where samples come from."""

    def open(self, take: Take, stop: asyncio.Event, /) -> AbstractAsyncContextManager[None]:
        """`take` gets every record of `fleet.metrics` that comes from now on; with `stop` it need not begin.

        Raises LogError, or a group of such where they come no more.
        """


class FaustWindows:
    def __init__(self, options: KafkaOptions) -> None:
        self._options = options

    @asynccontextmanager
    async def open(self, take: Take, stop: asyncio.Event) -> AsyncIterator[None]:
        life = _Life(self._options, take)
        try:
            await life.begin(stop)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(life.fail(), name="faust")
                yield
                watching.cancel()
        finally:
            await life.end()


class _Life:
    """One application, in a thread. What is public is for the loop that made it; `take` is called there too."""

    def __init__(self, options: KafkaOptions, take: Take) -> None:
        self._options = options
        self._take = take
        self._owner = asyncio.get_running_loop()
        self._begun, self._ended = asyncio.Event(), asyncio.Event()
        self._error: BaseException | None = None
        self._told = threading.Event()
        threading.Thread(target=self._run, name="faust", daemon=True).start()

    async def begin(self, stop: asyncio.Event) -> None:
        """Returns when it reads, or need not any more. Raises LogError."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._begun, self._ended, stop)]
        try:
            await asyncio.wait(waiting, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if self._ended.is_set():
            raise LogError(f"faust did not begin: {self._error!r}")
        if not (self._begun.is_set() or stop.is_set()):
            raise LogError(f"faust did not begin within {_START_S:.0f} s")

    async def fail(self) -> None:
        """Raises LogError when it has ended by itself: no sample comes any more, and nobody else would say so."""
        await self._ended.wait()
        raise LogError(f"faust has ended: {self._error!r}")

    async def end(self) -> None:
        self._told.set()
        try:
            async with asyncio.timeout(_STOP_S + _WATCH_S):
                await self._ended.wait()
        except TimeoutError:
            log.warning("faust did not stop in time, and is left behind", seconds=_STOP_S)

    # --- in its thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits for samples has to know
            self._error = error
        self._tell(self._ended)

    def _tell(self, event: asyncio.Event) -> None:
        # A loop that is closed has nobody who waits.
        with suppress(RuntimeError):
            self._owner.call_soon_threadsafe(event.set)

    async def _live(self) -> None:
        with TemporaryDirectory(prefix="flotilla-autoscaler-") as folder:
            app = self._app(folder)
            self._agent(app)
            # Its consumer has one more thread, which must not keep the process from its end either.
            app.consumer._thread.Worker = _DaemonThread
            try:
                await self._follow(app)
            except Exception as error:  # noqa: BLE001 - said before it is stopped, which may take without end
                self._error = error
                self._tell(self._ended)
            finally:
                async with asyncio.timeout(_STOP_S):
                    await app.stop()

    async def _follow(self, app: Any) -> None:
        """Until it is told to end. Raises LogError where it ended by itself."""
        await app.start()
        while not (self._told.is_set() or app.crashed or app.should_stop):
            if app.consumer.assignment():
                self._tell(self._begun)
            await asyncio.sleep(_WATCH_S if self._begun.is_set() else 0.05)
        if not self._told.is_set():
            raise LogError(f"crashed: {app.crash_reason!r}")

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

    def _agent(self, app: Any) -> None:
        topic = app.topic(METRICS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

        async def samples(stream: Any) -> None:
            behind: dict[int, int] = {}
            async for event in stream.events():
                record = _record(event.message)
                behind[record.partition] = max(0, (app.consumer.highwater(event.message.tp) or 0) - record.offset - 1)
                # One at a time: whoever takes them slowly is not overrun.
                given = asyncio.run_coroutine_threadsafe(self._give(record, sum(behind.values())), self._owner)
                await asyncio.wrap_future(given)

        app.agent(topic, concurrency=1)(samples)

    async def _give(self, record: Record, behind: int) -> None:
        """In the loop of whoever takes it."""
        LAG.labels(_READER, record.topic).set(behind)
        try:
            if not self._told.is_set():
                self._take(record)
        except Exception:
            # An exception in an agent acknowledges its event and ends the agent: the next sample puts it right.
            log.exception("sample failed", position=str(record.position))


class _DaemonThread(WorkerThread):
    def __init__(self, service: Any, **more: Any) -> None:
        super().__init__(service, **more)
        self.daemon = True


def _record(message: Any) -> Record:
    headers = message.headers
    return Record(
        message.topic,
        message.partition,
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        tuple((headers or {}).items()) if isinstance(headers, dict) else headers or (),
    )


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
