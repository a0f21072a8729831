"""Every service by TLS and a password to the broker, and by TLS, a certificate and a password to Redis."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from services.cli.demo.command import CLUSTERS
from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.local import SERVICES
from shared.events.v1.status import Phase
from tests.e2e.harness import followed, workload
from tests.fixtures.redis import Command
from tests.fixtures.secure import PASSWORD, REDIS_USER, USER, SecureBroker, SecureRedis, secure_broker, secure_redis

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(600)]


def environment(broker: SecureBroker, redis: SecureRedis) -> dict[str, str]:
    return {
        "FLOTILLA_KAFKA_SECURITY": "SASL_SSL",
        "FLOTILLA_KAFKA_CA": str(broker.authority),
        "FLOTILLA_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "FLOTILLA_KAFKA_USERNAME": USER,
        "FLOTILLA_KAFKA_PASSWORD": PASSWORD,
        "FLOTILLA_REDIS_CA": str(redis.authority),
        "FLOTILLA_REDIS_CERTIFICATE": str(redis.client.certificate),
        "FLOTILLA_REDIS_KEY": str(redis.client.key),
        "FLOTILLA_REDIS_USERNAME": REDIS_USER,
        "FLOTILLA_REDIS_PASSWORD": PASSWORD,
    }


async def test_a_fleet_over_tls_runs_what_is_asked(kafka_bootstrap: str, redis_server: Command, tmp_path: Path) -> None:
    assert kafka_bootstrap
    async with (
        secure_broker(tmp_path) as broker,
        secure_redis(tmp_path / "redis", redis_server, mutual=True) as redis,
    ):
        options = FleetOptions(
            tmp_path / "fleet",
            SimulatedClusters(tmp_path / "clusters", CLUSTERS),
            services=(*SERVICES, "autoscaler"),
            environment=environment(broker, redis),
            kafka=broker.sasl,
            redis=redis.url,
        )
        async with LocalFleet(options) as local:
            await place_one(local, tmp_path)


async def place_one(local: LocalFleet, directory: Path) -> None:
    async with followed(local, directory) as fleet:
        key = await fleet.apply(workload("guarded"))
        await fleet.until_phase(key, Phase.RUNNING)

        async def in_redis() -> bool:
            async with (
                aiohttp.ClientSession(local.services["hub"].url, timeout=aiohttp.ClientTimeout(total=30)) as session,
                session.get(f"/workload/{key}") as response,
            ):
                return response.status == 200 and (await response.json())["phase"] == Phase.RUNNING.value

        await fleet.until_true(in_redis, "the hub reads its status from Redis")
