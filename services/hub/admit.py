"""`POST /admit` over TLS: the API server asks whether a Cluster or Workload may be stored.

Every replica answers. What is refused is audited with the user's name, which only the API server knows. An answer waits
for nothing: audit records go to the log behind it, from a bounded queue, and what finds no room there is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Self

import orjson
from aiohttp import web

from services.hub import metrics
from services.hub.decision.admission import Verdict, review
from services.hub.decision.views import UNKNOWN_ACTOR
from services.hub.effects import ACTION, publish
from services.hub.tls import ServerTls
from shared.events.v1.audit import ActionAudited
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError

log = get_logger(__name__)

Audit = Callable[[Verdict], None]

# An object of Kubernetes has at most 1.5 MB; an update carries two of them.
_MAX_BYTES: Final = 8 * 1024 * 1024
_MAX_MESSAGE: Final = 2000
_QUEUED_AUDITS: Final = 1000
_AGAIN_S: Final = 1.0


class AdmissionServer:
    """Serves while it is entered."""

    def __init__(self, host: str, port: int, tls: ServerTls, audit: Audit) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._audit = audit
        app = web.Application(client_max_size=_MAX_BYTES)
        app.router.add_post("/admit", self._admit)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)

    @property
    def port(self) -> int:
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls.context).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _admit(self, request: web.Request) -> web.Response:
        try:
            document = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            document = None
        verdict = review(document)
        metrics.ADMISSIONS.labels(kind=verdict.kind or "none", outcome=_outcome(verdict)).inc()
        if not verdict.allowed and verdict.uid and not verdict.dry_run:
            log.info("refused", kind=verdict.kind, name=verdict.name, user=verdict.user, message=verdict.message)
            self._audit(verdict)
        return web.Response(body=orjson.dumps(verdict.review), content_type="application/json")


class RefusalAudit:
    """Writes refusals to `fleet.audit` while `run` runs."""

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._waiting: asyncio.Queue[ActionAudited] = asyncio.Queue(_QUEUED_AUDITS)

    def add(self, verdict: Verdict) -> None:
        action = ActionAudited(
            actor=verdict.user or UNKNOWN_ACTOR,
            verb="create" if verdict.operation == "CREATE" else "change",
            kind="Cluster" if verdict.kind == "Cluster" else "Workload",
            name=verdict.name,
            request_id=verdict.uid,
            allowed=False,
            message=verdict.message[:_MAX_MESSAGE],
            at=self._clock.now_ms(),
        )
        try:
            self._waiting.put_nowait(action)
        except asyncio.QueueFull:
            metrics.AUDITS_DROPPED.inc()
            log.warning("refusal not audited: the log is too slow", name=action.name, actor=action.actor)

    async def run(self) -> None:
        """Without end; cancel it. A log that is away is tried again with the same record."""
        action: ActionAudited | None = None
        while True:
            try:
                publisher = await self._events.publisher("hub-admit")
                try:
                    while True:
                        action = action or await self._waiting.get()
                        event_id = f"{action.request_id}.audit"
                        await publish(publisher, ACTION, action.actor, action.to_json(), event_id, action.at)
                        action = None
                finally:
                    await publisher.close()
            except LogError as error:
                log.warning("refusals are audited later", error=str(error), waiting=self._waiting.qsize())
                await self._clock.sleep(_AGAIN_S)


def _outcome(verdict: Verdict) -> str:
    return "allowed" if verdict.allowed else "refused"
