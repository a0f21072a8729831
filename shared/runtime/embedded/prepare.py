"""What is done once for a machine: the jars, and a start-up cache for the JVM.

The JVM's ahead-of-time cache (JEP 514) keeps Kafka's classes loaded and linked. It is recorded by running a real
broker through a real produce and consume, and brings a start from 1.6 s down to 0.7 s on 2 cores; recording takes
about 6 s, once. It holds no behaviour: without it, or with one that does not fit, everything works, only slower.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shared.runtime.embedded.broker import Broker
from shared.runtime.embedded.jars import install_jars
from shared.runtime.embedded.jvm import JavaRuntime
from shared.runtime.embedded.kafka_config import KafkaConfig
from shared.runtime.embedded.lockfile import read_lock
from shared.runtime.embedded.mutex import exclusive
from shared.runtime.embedded.network import free_ports
from shared.runtime.embedded.progress import Progress, silent
from shared.runtime.embedded.settings import EmbeddedSettings

_log = structlog.get_logger(__name__)

_EXERCISE_DEADLINE_S = 60.0
_RECORDING_GRACE_S = 120.0  # the JVM writes the cache when it ends
_CACHES_KEPT = 4  # each virtual environment has a Java runtime, and so a cache, of its own (70 MB)
_STEP = "Preparing Kafka for fast starts (once)"
_STEPS = 3


async def prepare_kafka(settings: EmbeddedSettings | None = None, progress: Progress = silent) -> JavaRuntime:
    """Everything that a broker needs, downloaded and prepared if this machine has not got it.

    Raises:
        PartsMissingError: a wheel is not installed, or the jars are neither cached nor in reach.
        DigestMismatchError: a jar is not the locked one.
    """
    settings = settings or EmbeddedSettings()
    runtime = JavaRuntime.locate(await install_jars(read_lock(), settings, progress))
    if not settings.jvm_startup_cache:
        return runtime
    home = settings.cache / "kafka" / "startup"
    cache = home / f"{runtime.fingerprint()}.aot"
    async with exclusive(home / ".recording"):
        if cache.exists():
            os.utime(cache)  # the oldest by use is removed first
        elif not await _record(runtime, cache, progress):
            return runtime
    return runtime.using(cache)


async def _record(runtime: JavaRuntime, cache: Path, progress: Progress) -> bool:
    progress(_STEP, 0, _STEPS)
    with tempfile.TemporaryDirectory(prefix="recording-", dir=cache.parent) as directory:
        recorded = Path(directory, cache.name)
        port, controller_port = free_ports(2)
        config = KafkaConfig(port=port, controller_port=controller_port)
        broker = Broker(Path(directory, "broker"), config, runtime, record_to=recorded)
        process = await broker.launch()
        try:
            await broker.wait_ready(process)
            progress(_STEP, 1, _STEPS)
            async with asyncio.timeout(_EXERCISE_DEADLINE_S):
                await _exercise(config.bootstrap)
            progress(_STEP, 2, _STEPS)
        finally:
            await process.stop(grace_s=_RECORDING_GRACE_S)
        kept = _keep(recorded, cache)
        if not kept:
            _log.warning("the JVM recorded no start-up cache; starts will be slower", log=process.tail())
    progress(_STEP, _STEPS, _STEPS)
    return kept


def _keep(recorded: Path, cache: Path) -> bool:
    if not recorded.is_file():
        return False
    recorded.rename(cache)
    for stale in sorted(cache.parent.glob("*.aot"), key=lambda path: path.stat().st_mtime)[:-_CACHES_KEPT]:
        stale.unlink()
    return True


async def _exercise(bootstrap: str) -> None:
    """Touch what every service will use first: topics, an idempotent producer, a consumer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("warm-up", num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        await producer.send_and_wait("warm-up", b"value")
    async with AIOKafkaConsumer("warm-up", bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        await consumer.getone()
