"""kill -9 and SIGSTOP/SIGCONT of everything that runs."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

from services.cli.fleet.process import FleetError, ServiceProcess
from tests.chaos.bed import Bed
from tests.chaos.faults.base import QUORUM, RECOVERY_S, Fault
from tests.chaos.journalist import SERVES
from tests.testbed import RealCluster

_POLL_S: Final = 0.5
_PROBE_S: Final = 60.0


async def service_ready(service: ServiceProcess) -> None:
    """Until it is ready, however often the supervisor has to start it. Raises TimeoutError."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                await service.wait_ready(_PROBE_S)
            except FleetError:  # it ended, or is not ready yet because something else is broken
                await asyncio.sleep(_POLL_S)
            else:
                return


async def brokers_complete(bed: Bed) -> None:
    """Until all brokers are there and in sync. Raises TimeoutError."""
    async with asyncio.timeout(RECOVERY_S):
        while not await bed.brokers_complete():  # noqa: ASYNC110  the brokers send no event
            await asyncio.sleep(_POLL_S)


class _OfService(Fault):
    weight = 4

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return list(bed.options.services)

    @property
    def _service(self) -> ServiceProcess:
        return self.bed.services[self.target]


class ServiceKilled(_OfService):
    name = "kill -9 of a service"

    async def inject(self) -> None:
        self.bed.held.add(self.target)
        self._service.kill()
        self.journalist.lived(self.target, "killed")

    async def heal(self) -> None:
        if not self._service.running:
            self._service.start()
            self.journalist.lived(self.target, "started")
        self.bed.held.discard(self.target)
        await service_ready(self._service)


class ServiceStopped(_OfService):
    """Longer than a lease and a session, at times: a leader that comes back finds that it is none."""

    name = "SIGSTOP of a service"
    hold = (2.0, 20.0)

    async def inject(self) -> None:
        self._service.signal(signal.SIGSTOP)
        self.journalist.lived(self.target, "paused")

    async def heal(self) -> None:
        self._service.signal(signal.SIGCONT)
        self.journalist.lived(self.target, "resumed")
        await service_ready(self._service)


class _OfBroker(Fault):
    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return list(bed.brokers)

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({QUORUM})


class BrokerKilled(_OfBroker):
    name = "kill -9 of a broker"

    async def inject(self) -> None:
        self.bed.brokers[self.target].kill()
        self.journalist.lived(self.target, "killed")

    async def heal(self) -> None:
        await start_broker(self.bed, self.target)


async def start_broker(bed: Bed, name: str) -> None:
    """Start it unless it runs, and wait until it has caught up."""
    broker = bed.brokers[name]
    if not broker.running:
        broker.kill()  # reaps one that ended by itself
        await broker.start()
    await brokers_complete(bed)


class BrokerStopped(_OfBroker):
    """Longer than its session (9 s), at times: it comes back as a leader that is none any more."""

    name = "SIGSTOP of a broker"
    hold = (3.0, 16.0)

    async def inject(self) -> None:
        self.bed.brokers[self.target].process_id.signal(signal.SIGSTOP)
        self.journalist.lived(self.target, "paused")

    async def heal(self) -> None:
        self.bed.brokers[self.target].process_id.signal(signal.SIGCONT)
        self.journalist.lived(self.target, "resumed")
        await start_broker(self.bed, self.target)


class _OfRedis(Fault):
    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return [bed.redis_host.name]


class RedisKilled(_OfRedis):
    name = "kill -9 of Redis"

    async def inject(self) -> None:
        self.bed.redis.kill()
        self.journalist.lived(self.target, "killed")

    async def heal(self) -> None:
        if not self.bed.redis.running:
            await self.bed.redis.start()


class RedisStopped(_OfRedis):
    name = "SIGSTOP of Redis"
    hold = (2.0, 15.0)

    async def inject(self) -> None:
        self.bed.redis.process_id.signal(signal.SIGSTOP)
        self.journalist.lived(self.target, "paused")

    async def heal(self) -> None:
        self.bed.redis.process_id.signal(signal.SIGCONT)
        await self.bed.redis.wait_ready()


class _OfComponent(Fault):
    """A component of a cluster; the target is the cluster's name."""

    component: str

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return list(bed.api_servers)

    @property
    def _cluster(self) -> RealCluster:
        return self.bed.api_servers[self.target]

    async def _serves(self) -> None:
        """Until the API server says that it is ready: it is not without its etcd."""
        async with asyncio.timeout(RECOVERY_S):
            while not await self._cluster.api.healthy(f"{self._cluster.api.server}/readyz"):  # noqa: ASYNC110  as above
                await asyncio.sleep(_POLL_S)
        self.journalist.lived(f"{self.target}/{self.component}", SERVES)


class _Killed(_OfComponent):
    async def inject(self) -> None:
        self._cluster.kill(self.component)
        self.journalist.lived(f"{self.target}/{self.component}", "killed")

    async def heal(self) -> None:
        if not self._cluster.components[self.component].running:
            await self._cluster.restart(self.component)
        await self._serves()


class _Stopped(_OfComponent):
    hold = (2.0, 15.0)

    async def inject(self) -> None:
        self._cluster.pause(self.component)
        self.journalist.lived(f"{self.target}/{self.component}", "paused")

    async def heal(self) -> None:
        self._cluster.resume(self.component)
        await self._serves()


class ApiServerKilled(_Killed):
    name = "kill -9 of a kube-apiserver"
    component = "kube-apiserver"


class ApiServerStopped(_Stopped):
    name = "SIGSTOP of a kube-apiserver"
    component = "kube-apiserver"


class EtcdKilled(_Killed):
    name = "kill -9 of an etcd"
    component = "etcd"


class EtcdStopped(_Stopped):
    name = "SIGSTOP of an etcd"
    component = "etcd"
