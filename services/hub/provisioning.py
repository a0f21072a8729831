"""Carries out what is decided about clusters that are made, beside the work on the hub's own objects.

A management cluster that is slow or away must not hold those up, so it has workers of its own. What comes of a call is
a fact that is fed back, errors too: when to ask again is decided with everything else. Of the newest wish for a
Cluster nothing is lost, and of older ones nothing is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from services.hub import metrics
from services.hub.decision.instructions import Deprovision, Item, Provision, ProvisionSeen
from services.hub.work_queue import WorkQueue
from shared.kernel.machine import Stimulus
from shared.model.provisioning import FORBIDDEN, NOT_FOUND, REFUSED, UNAVAILABLE, Stage, Standing
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError
from shared.ports.provisioning import ClusterProvisioner, KubeconfigError, KubeconfigStore

log = get_logger(__name__)

WORKERS: Final = 4
_REASONS: Final = {401: FORBIDDEN, 403: FORBIDDEN, 404: NOT_FOUND}
_LONGEST: Final = 512


@dataclass(frozen=True, slots=True)
class Making:
    """Who makes clusters, and where agents look for their kubeconfigs; without that agents are run by others.

    `deadline_s` bounds one wish.
    """

    provisioner: ClusterProvisioner
    kubeconfigs: KubeconfigStore | None
    deadline_s: float


class Provisioners:
    """Belongs to one life of the bridge. `check` raises when the lease is lost."""

    def __init__(
        self, making: Making, emit: Callable[[Stimulus], None], check: Callable[[], None], clock: Clock
    ) -> None:
        self._provisioner = making.provisioner
        self._kubeconfigs = making.kubeconfigs
        self._deadline_s = making.deadline_s
        self._emit = emit
        self._check = check
        self._clock = clock
        self._queue = WorkQueue(metrics.PROVISIONS_QUEUED)
        self._wishes: dict[str, Provision | Deprovision] = {}
        self._numbers = count(1)

    def put(self, wish: Provision | Deprovision) -> None:
        self._wishes[wish.name] = wish
        self._queue.add(Item("", wish.name))

    async def work(self) -> None:
        """One worker of `WORKERS`, without end; cancel it. Raises what `check` raises."""
        while True:
            item = await self._queue.take()
            try:
                wish = self._wishes.pop(item.name)
                standing = await self._carry_out(wish)
                seen = ProvisionSeen(
                    id=f"provision:{next(self._numbers)}",
                    at_ms=self._clock.now_ms(),
                    name=wish.name,
                    uid=wish.uid,
                    ends=isinstance(wish, Deprovision),
                    standing=standing,
                )
                self._emit(seen)
            finally:
                self._queue.done(item)

    async def _carry_out(self, wish: Provision | Deprovision) -> Standing:
        kind = type(wish).__name__
        self._check()
        try:
            async with asyncio.timeout(self._deadline_s):
                standing = await (self._make(wish) if isinstance(wish, Provision) else self._unmake(wish))
        except ApiError as error:
            standing = _trouble(error)
        except KubeconfigError as error:
            standing = Standing(Stage.COMING, error.reason, error.message)
        except OSError as error:
            # TimeoutError too. Of a file its name is said, and nothing that is in it.
            what = "no answer in time" if isinstance(error, TimeoutError) else f"{error.strerror}: {error.filename}"
            standing = Standing(Stage.UNKNOWN, UNAVAILABLE, what)
        except Exception as error:
            # What one management cluster has must not end the bridge of all others.
            log.exception("asking for a cluster failed", cluster=wish.name, asked=kind)
            standing = Standing(Stage.UNKNOWN, UNAVAILABLE, f"{type(error).__name__}: see the hub's log")
        metrics.INSTRUCTIONS.labels(kind=kind, outcome="failed" if standing.stage is Stage.UNKNOWN else "done").inc()
        # Without the message: an API server may quote variables in it.
        log.info("asked for a cluster", cluster=wish.name, asked=kind, stage=standing.stage, reason=standing.reason)
        return standing

    async def _make(self, wish: Provision) -> Standing:
        standing = await self._provisioner.apply(wish.name, wish.uid, wish.wanted)
        if standing.stage is not Stage.READY or self._kubeconfigs is None:
            return standing
        document = await self._provisioner.kubeconfig(wish.name, wish.wanted)
        if await self._kubeconfigs.write(wish.name, wish.uid, document):
            log.info("kubeconfig handed to the agents", cluster=wish.name)
        return standing

    async def _unmake(self, wish: Deprovision) -> Standing:
        if self._kubeconfigs is not None and await self._kubeconfigs.remove(wish.name, wish.uid):
            log.info("kubeconfig taken from the agents", cluster=wish.name)
        if not wish.delete:
            return Standing(Stage.LEAVING, "Leaving", "the agents leave")
        return await self._provisioner.delete(wish.name, wish.uid, wish.wanted)


def _trouble(error: ApiError) -> Standing:
    reason = UNAVAILABLE if error.retryable else _REASONS.get(error.code, REFUSED)
    return Standing(Stage.UNKNOWN, reason, f"{error.code} {error.reason}: {error.message}"[:_LONGEST])
