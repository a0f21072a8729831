"""Carries out what the bridge says: records to the log, writes to the hub cluster.

Every effect may be repeated. What failed because the object changed or went meanwhile is no failure: the watch tells,
and the next decision starts from there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from services.hub import metrics
from services.hub.decision.instructions import (
    CreateObject,
    DeclarationSeen,
    DeleteObject,
    PublishAudit,
    PublishDeclaration,
    PublishRequest,
    ReplaceObject,
    RequestAcknowledged,
    SetFinalizers,
    WriteStatus,
)
from services.hub.decision.resources import API_VERSION, CLUSTERS
from services.hub.decision.views import HUB_MANAGER
from shared.events.envelope import Envelope
from shared.events.topics import ACTION_AUDITED, AUDIT, CLUSTER_DECLARED, REQUESTED, REQUESTS, MessageType, Topic
from shared.events.topics import CLUSTERS as DECLARATIONS
from shared.events.v1.workloads import FieldError
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import MANAGED_BY, MANAGED_BY_LABEL, Resource
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ApplyOptions, ClusterApi, Object
from shared.ports.event_log import NewRecord, Publisher, Record
from shared.runtime.dead_letters import dead_letter
from shared.runtime.ids import new_id

log = get_logger(__name__)

SOURCE: Final = "flotilla/hub"
NAMESPACES: Final = Resource("", "v1", "namespaces")
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class LeaseLostError(Exception):
    """The lease may be somebody else's by now: nothing is done with what was decided under it."""


class RateLimit:
    """At most so many turns in a second, on average; a second's worth may come at once."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._interval = 1.0 / per_second
        self._burst = per_second
        self._clock = clock
        self._next = clock.monotonic()

    async def turn(self) -> None:
        now = self._clock.monotonic()
        self._next = max(self._next, now - self._burst * self._interval) + self._interval
        if self._next > now:
            await self._clock.sleep(self._next - now)


class Outgoing(NamedTuple):
    """A message of the hub's and its topic."""

    topic: Topic
    type: MessageType


REQUEST: Final = Outgoing(REQUESTS, REQUESTED)
DECLARATION: Final = Outgoing(DECLARATIONS, CLUSTER_DECLARED)
ACTION: Final = Outgoing(AUDIT, ACTION_AUDITED)


class Effects:
    """`carry_out` raises ApiError or LogError for what is to be tried again, LeaseLostError unless `holds()`."""

    def __init__(
        self, api: ClusterApi, publisher: Publisher, limit: RateLimit, clock: Clock, holds: Callable[[], bool]
    ) -> None:
        self._api = api
        self._publisher = publisher
        self._limit = limit
        self._clock = clock
        self._holds = holds

    async def carry_out(self, instruction: Instruction) -> Stimulus | None:
        """Returns when it is done, with what follows from it."""
        kind = type(instruction).__name__
        self._check()
        try:
            stimulus = await self._publish(instruction)
            if stimulus is None:
                await self._write(instruction)
        except Exception:
            metrics.INSTRUCTIONS.labels(kind=kind, outcome="failed").inc()
            raise
        metrics.INSTRUCTIONS.labels(kind=kind, outcome="done").inc()
        return stimulus

    async def refuse(self, record: Record, errors: Sequence[FieldError]) -> None:
        """To the dead-letter topic. Raises LogError."""
        log.warning("record refused", position=str(record.position), field=errors[0].field, message=errors[0].message)
        await (await self._publisher.send(dead_letter(record, errors)))
        metrics.DEAD_LETTERS.labels(topic=record.topic).inc()

    def _check(self) -> None:
        if not self._holds():
            raise LeaseLostError("the lease was not renewed in time")

    async def _turn(self) -> None:
        """Waits for the rate limit; the lease may have ended meanwhile."""
        await self._limit.turn()
        self._check()

    # Records

    async def _publish(self, instruction: Instruction) -> Stimulus | None:
        match instruction:
            case PublishRequest():
                key = str(instruction.key)
                await self._send(REQUEST, key, instruction.body, instruction.request_id)
                log.info("request published", workload=key, request=instruction.request_id, cause=instruction.cause)
                return RequestAcknowledged(
                    id=instruction.cause,
                    at_ms=self._clock.now_ms(),
                    key=instruction.key,
                    request_id=instruction.request_id,
                )
            case PublishDeclaration():
                body = instruction.declared.to_json() if instruction.declared is not None else None
                await self._send(DECLARATION, instruction.name, body, new_id())
                log.info("cluster declared" if body else "declaration taken back", cluster=instruction.name)
                return DeclarationSeen(
                    id=instruction.cause,
                    at_ms=self._clock.now_ms(),
                    name=instruction.name,
                    declared=instruction.declared,
                )
            case PublishAudit():
                action = instruction.action
                await self._send(ACTION, action.actor, action.to_json(), instruction.event_id)
        return None

    async def _send(self, message: Outgoing, key: str, body: bytes | None, event_id: str) -> None:
        await publish(self._publisher, message, key, body, event_id, self._clock.now_ms())

    # Objects

    async def _write(self, instruction: Instruction) -> None:
        match instruction:
            case CreateObject():
                await self._create(instruction)
            case ReplaceObject(resource=resource, namespace=namespace, name=name, body=body):
                await self._turn()
                await self._gone_is_fine(self._api.replace(resource, namespace, name, body))
            case SetFinalizers():
                await self._set_finalizers(instruction)
            case DeleteObject():
                await self._delete(instruction)
            case WriteStatus():
                await self._write_status(instruction)

    async def _create(self, create: CreateObject) -> None:
        await self._turn()
        try:
            await self._api.create(create.resource, create.namespace, create.body)
        except ApiError as error:
            if error.code == _NOT_FOUND and create.namespace:
                await ensure_namespace(self._api, create.namespace)
                await self._api.create(create.resource, create.namespace, create.body)
            elif error.code != _CONFLICT:
                raise

    async def _set_finalizers(self, wanted: SetFinalizers) -> None:
        await self._turn()
        body = {"metadata": {"resourceVersion": wanted.resource_version, "finalizers": list(wanted.finalizers)}}
        await self._gone_is_fine(self._api.merge_patch(wanted.resource, wanted.namespace, wanted.name, body))

    async def _delete(self, wanted: DeleteObject) -> None:
        await self._turn()
        try:
            await self._api.delete(wanted.resource, wanted.namespace, wanted.name, uid=wanted.uid)
        except ApiError as error:
            if error.code != _CONFLICT:
                raise
            log.info("another object of this name is there by now", name=wanted.name, namespace=wanted.namespace)

    async def _write_status(self, wanted: WriteStatus) -> None:
        await self._turn()
        metadata = {"name": wanted.name, "uid": wanted.uid}
        if wanted.namespace:
            metadata["namespace"] = wanted.namespace
        body = {
            "apiVersion": API_VERSION,
            "kind": "Cluster" if wanted.resource == CLUSTERS else "Workload",
            "metadata": metadata,
            "status": wanted.status,
        }
        options = ApplyOptions(manager=HUB_MANAGER, subresource="status")
        call = self._api.apply(wanted.resource, wanted.namespace, wanted.name, body, options)
        await self._gone_is_fine(call)

    async def _gone_is_fine(self, call: Awaitable[Object]) -> None:
        try:
            await call
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise


async def publish(
    publisher: Publisher, message: Outgoing, key: str, body: bytes | None, event_id: str, at_ms: int
) -> None:
    """Returns when the log has it. Raises LogError."""
    envelope = Envelope(id=event_id, source=SOURCE, type=message.type.ce_type, time_ms=at_ms, subject=key)
    await (await publisher.send(NewRecord(message.topic.name, key.encode(), body, envelope.to_headers())))


async def ensure_namespace(api: ClusterApi, namespace: str) -> None:
    """Makes a namespace unless it is there. Raises ApiError."""
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
    }
    try:
        await api.create(NAMESPACES, "", body)
    except ApiError as error:
        if error.code != _CONFLICT:
            raise
