"""One leader among the replicas, by a Lease: the shell of `decision/election.py`.

Invariant: the work of a leader has ended, or was cancelled, before its lease can be taken: it stops when the renew
deadline has passed without a renewal, which is earlier than the lease's end by `lease - renew` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

from services.hub import metrics
from services.hub.decision.election import LEASES, Election, Terms
from services.hub.effects import ensure_namespace
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ClusterApi, Object
from shared.runtime.pauses import pause

log = get_logger(__name__)

Lead = Callable[[asyncio.Event], Awaitable[None]]

_NOT_FOUND, _CONFLICT = 404, 409
_JITTER = 1.2
_RELEASE_S = 3.0


class _OtherwiseError(Exception):
    """The lease is not what it was when it was read or written last."""


class Elector:
    """Runs `lead(lost)` while this replica holds the lease; `lead` has to return soon after `lost` is set."""

    def __init__(self, api: ClusterApi, terms: Terms, clock: Clock) -> None:
        self._api = api
        self._terms = terms
        self._clock = clock
        self._election = Election(terms)
        self._told = ""
        self._renewed_at = float("-inf")
        # The lease as this replica wrote it last.
        self._written: Object | None = None

    def holds(self) -> bool:
        """Whether nobody else can have taken the lease yet, by this process' own monotonic time.

        After a pause this is false at once, before the loss is noticed.
        """
        return self._election.leads and self._clock.monotonic() < self._renewed_at + self._terms.renew_s

    @property
    def leader(self) -> str:
        return self._election.leader

    async def run(self, stop: asyncio.Event, lead: Lead) -> None:
        """Until `stop`. Raises what `lead` raises."""
        while not stop.is_set():
            if not await self._acquire(stop):
                return
            log.info("leading", identity=self._terms.identity, lease=self._terms.name)
            metrics.LEADER.set(1)
            try:
                await self._hold(stop, lead)
            finally:
                metrics.LEADER.set(0)
                await self._release()

    async def _acquire(self, stop: asyncio.Event) -> bool:
        """Whether the lease was taken before `stop`."""
        while not stop.is_set():
            if await self._try():
                return True
            if self.leader != self._told:
                self._told = self.leader
                log.info("standing by", leader=self.leader or "nobody yet")
            await pause(stop, self._terms.retry_s * random.uniform(1.0, _JITTER))  # noqa: S311 - jitter
        return False

    async def _hold(self, stop: asyncio.Event, lead: Lead) -> None:
        lost = asyncio.Event()
        leading = asyncio.create_task(_awaited(lead(lost)), name="lead")
        renewing = asyncio.create_task(self._renew(stop), name="renew")
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
            lost.set()
            await asyncio.wait({leading}, timeout=self._terms.lease_s - self._terms.renew_s)
            if leading.done():
                leading.result()
        finally:
            for task in (leading, renewing):
                task.cancel()
            await asyncio.gather(leading, renewing, return_exceptions=True)

    async def _renew(self, stop: asyncio.Event) -> None:
        """Returns when the lease is lost, or `stop` is set."""
        while not stop.is_set():
            await pause(stop, self._terms.retry_s)
            left = self._renewed_at + self._terms.renew_s - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    taken = await self._try()
            except TimeoutError:
                taken = False
            if not taken and not self.holds():
                log.warning("lease lost", holder=self.leader)
                return

    async def _try(self) -> bool:
        """Takes or renews the lease, if it may. API errors count as a failed try."""
        try:
            if self._written is not None and self.holds():
                # Nobody else may have written it: it is not read first, as client-go does not.
                with contextlib.suppress(_OtherwiseError):
                    return await self._take(self._written)
            return await self._take(await self._get())
        except (ApiError, _OtherwiseError) as error:
            log.warning("lease not taken", error=str(error))
            return False

    async def _take(self, present: Object | None) -> bool:
        """Raises ApiError; _OtherwiseError where the lease is not as `present` any more."""
        wanted = self._election.attempt(present, self._clock.monotonic(), self._clock.now_ms())
        if wanted is None:
            return False
        taken_at = self._clock.monotonic()
        try:
            self._written = await self._put(present, wanted)
        except ApiError as error:
            if error.code in {_CONFLICT, _NOT_FOUND}:
                raise _OtherwiseError(str(error)) from error
            raise
        self._election.written(self._written, taken_at)
        # Counted from before the request: a server that took long has given less.
        self._renewed_at = taken_at
        return True

    async def _get(self) -> Object | None:
        try:
            return await self._api.get(LEASES, self._terms.namespace, self._terms.name)
        except ApiError as error:
            if error.code == _NOT_FOUND:
                return None
            raise

    async def _put(self, present: Object | None, wanted: Object) -> Object:
        if present is not None:
            return await self._api.replace(LEASES, self._terms.namespace, self._terms.name, wanted)
        try:
            return await self._api.create(LEASES, self._terms.namespace, wanted)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
        await ensure_namespace(self._api, self._terms.namespace)
        return await self._api.create(LEASES, self._terms.namespace, wanted)

    async def _release(self) -> None:
        """Lets the next one begin at once. If it fails, the lease runs out."""
        try:
            async with asyncio.timeout(_RELEASE_S):
                while not await self._released():
                    log.debug("lease was renewed meanwhile: released again")
        except (ApiError, TimeoutError) as error:
            log.warning("lease not released: it runs out by itself", error=str(error))

    async def _released(self) -> bool:
        """False where it was written between reading and writing: a renewal that was cancelled may still arrive."""
        present = await self._get()
        wanted = self._election.release(present, self._clock.now_ms()) if present is not None else None
        if wanted is None:
            return True
        try:
            await self._api.replace(LEASES, self._terms.namespace, self._terms.name, wanted)
        except ApiError as error:
            if error.code != _CONFLICT:
                raise
            return False
        log.info("lease released")
        return True


async def _awaited(work: Awaitable[None]) -> None:
    await work
