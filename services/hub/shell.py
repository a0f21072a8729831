"""The hub as a service: every replica serves REST and `/admit`; the one that holds the lease installs and bridges."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from services.hub import metrics
from services.hub.admit import AdmissionServer, RefusalAudit
from services.hub.bridge import BridgeTerm
from services.hub.decision.election import Terms
from services.hub.effects import LeaseLostError
from services.hub.install import install_crds, register_webhook
from services.hub.leader import Elector
from services.hub.provisioning import Making
from services.hub.rest import Rest
from services.hub.settings import HubSettings
from services.hub.tls import ServerTls, from_files, self_signed
from shared.adapters.clock import SteadyClock
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ClusterApi
from shared.ports.event_log import EventLog, LogError
from shared.ports.key_value import KeyValue
from shared.runtime.service import Readiness

log = get_logger(__name__)

_AGAIN_S = 1.0


class HubService:
    def __init__(
        self,
        settings: HubSettings,
        api: ClusterApi,
        events: EventLog,
        store: KeyValue,
        making: Making,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._making = making
        self._api = api
        self._events = events
        self._clock = clock
        self._rest = Rest(store, clock)
        self._audit = RefusalAudit(events, clock)
        self._terms = Terms(
            identity=settings.hub_id,
            name=settings.hub_lease_name,
            namespace=settings.hub_lease_namespace,
            lease_s=settings.hub_lease_s,
            renew_s=settings.hub_renew_s,
            retry_s=settings.hub_retry_s,
        )
        self._elector = Elector(api, self._terms, clock)
        self._term: BridgeTerm | None = None
        self._tls: ServerTls | None = None
        self._url = ""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return self._rest.routes()

    def readiness(self) -> Readiness:
        if self._elector.leader and self._elector.leader != self._terms.identity:
            return Readiness(ready=True)
        if self._term is None:
            return Readiness(ready=False, reason=f"nobody bridges yet: no lease from {self._api.server}")
        return self._term.readiness()

    async def run(self, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            if self._settings.hub_admit_port >= 0:
                await self._serve_admission(stack)
            auditing = asyncio.create_task(self._audit.run(), name="audit")
            try:
                await self._elector.run(stop, self._lead)
            finally:
                auditing.cancel()
                await asyncio.gather(auditing, return_exceptions=True)

    async def _serve_admission(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        if settings.hub_certificate is not None and settings.hub_key is not None:
            self._tls = from_files(settings.hub_certificate, settings.hub_key, settings.hub_ca)
        else:
            self._tls = self_signed(settings.hub_admit_host, settings.hub_admit_url)
        host, port = settings.hub_admit_host, settings.hub_admit_port
        server = await stack.enter_async_context(AdmissionServer(host, port, self._tls, self._audit.add))
        self._url = settings.hub_admit_url or f"https://{host}:{server.port}/admit"
        log.info("serving admission", url=self._url)

    async def _lead(self, lost: asyncio.Event) -> None:
        """Bridges until the lease is lost; what breaks the bridge begins it anew."""
        try:
            while not lost.is_set():
                try:
                    if self._elector.holds():
                        await self._bridge(lost)
                        continue
                    log.warning("the lease may be lost")
                    await self._clock.sleep(_AGAIN_S)
                except (ApiError, LogError, LeaseLostError) as error:
                    metrics.RESTARTS.inc()
                    log.warning("the bridge begins again", error=str(error))
                    await self._clock.sleep(_AGAIN_S)
        finally:
            self._term = None

    async def _bridge(self, lost: asyncio.Event) -> None:
        await self._install()
        clock = SteadyClock(self._clock)
        self._term = BridgeTerm(self._api, self._events, self._making, self._settings, clock, self._elector.holds)
        await self._term.run(lost)

    async def _install(self) -> None:
        if self._settings.hub_install_crds:
            await install_crds(self._api, self._clock)
        if self._settings.hub_webhook and self._tls is not None:
            policy = self._settings.hub_webhook_failure_policy
            await register_webhook(self._api, self._url, self._tls.authority, policy)
