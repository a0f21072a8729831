"""One run: the bed up, requests and faults for a while, everything healed, then the truth is asked for.

Order at the end: no more faults, all healed; no more requests; then the evidence is looked at again and again until
everything is as it was asked for or the time to settle is over. What must never have been so is checked once, after.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from redis.exceptions import RedisError

from shared.ports.event_log import LogError
from tests.chaos import checks, policies
from tests.chaos.bed import Bed, BedOptions
from tests.chaos.evidence import Witness
from tests.chaos.faults import FAULTS
from tests.chaos.injection import Injection, kinds
from tests.chaos.journalist import WATCHED, Journalist
from tests.chaos.plan import Kind, plan
from tests.chaos.publishing import User
from tests.chaos.report import Report
from tests.chaos.requests import Requests
from tests.simulation.checker import Violation, settled
from tests.testbed.api import ApiError

_LOOK_S: Final = 2.0
_PROGRESS_S: Final = 15.0
_JOIN_S: Final = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`most_faults` ends the faults early; `only` names the classes, all if empty; after `settle_s` it is too late."""

    seed: int
    seconds: float
    directory: Path
    history: Path
    clusters: int = 3
    hub: bool = True
    live_per_cluster: int = 12
    every_s: float = 0.8
    gap_s: float = 4.0
    settle_s: float = 300.0
    most_faults: int | None = None
    only: tuple[str, ...] = ()


class Run:
    def __init__(self, options: RunOptions, say: Say) -> None:
        self._options = options
        self._say = say
        self._stopped = asyncio.Event()  # by a person
        self._over = asyncio.Event()  # no more faults
        self._quiet = asyncio.Event()  # no more requests
        self.started = False

    def stop(self) -> None:
        """Ends the faults now; what was begun is healed, and the checks are made."""
        self._stopped.set()

    async def run(self) -> Report:
        options = self._options
        began = time.monotonic()
        with options.history.open("w") as file:
            journalist = Journalist(file)
            bed = Bed(BedOptions(options.directory, clusters=options.clusters, hub=options.hub), journalist.lived)
            async with bed.running(self._say), self._observed(bed, journalist):
                self.started = True
                self._say(f"the fleet is up after {time.monotonic() - began:.0f} s")
                return await self._break(bed, journalist, began)

    @asynccontextmanager
    async def _observed(self, bed: Bed, journalist: Journalist) -> AsyncIterator[None]:
        """Supervisor and journalist beside whatever is done meanwhile; the end of one of them ends the run."""
        work = [bed.supervise(), journalist.follow_topics(bed.kafka_options, list(bed.clusters))]
        work += [
            journalist.follow_cluster(cluster, resource) for cluster in bed.clusters.values() for resource in WATCHED
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
            yield
            for task in tasks:
                task.cancel()

    async def _break(self, bed: Bed, journalist: Journalist, began: float) -> Report:
        options = self._options
        possible = [kind for kind in kinds(bed) if not options.only or kind.name in options.only]
        injection = Injection(bed, journalist, plan(options.seed, possible), self._say, options.gap_s)
        requests, user = (
            Requests(options.seed, options.live_per_cluster * options.clusters, _tight(bed.options), bed.options.site),
            User(journalist, options.every_s),
        )
        async with asyncio.TaskGroup() as group:
            await self._members_joined(bed)
            group.create_task(user.publish(bed.log, requests.stream(), self._quiet))
            clock = group.create_task(self._clock())
            progress = group.create_task(self._progress(injection, user, journalist))
            await injection.run(self._over, options.most_faults)
            self._say("all faults are healed; the last requests")
            clock.cancel()
            await asyncio.sleep(_LOOK_S)
            self._quiet.set()
            progress.cancel()
        witness = Witness(bed, journalist)
        settle_s, violations = await self._settle(witness, requests)
        violations += checks.always(witness.evidence)
        for violation in violations[:40]:
            self._say(f"VIOLATION {violation}")
        lives = journalist.history.lives
        return Report(
            seed=options.seed,
            seconds=time.monotonic() - began,
            requests=user.asked,
            requests_repeated=user.repeated,
            workloads=len(requests.wishes),
            settle_s=settle_s,
            trials=tuple(injection.trials),
            violations=tuple(violations),
            not_possible=_not_possible(possible, options.only),
            ended_by_themselves=Counter(life.process for life in lives if life.event == "failed"),
            counts={
                "records": len(journalist.history.appends),
                "writes": len(journalist.history.writes),
                "crowded_nodes": len(checks.crowded(journalist.history.writes)),
                "epochs": witness.evidence.journal.epoch,
                "void_decisions": witness.evidence.journal.void,
                **policies.counts(witness.evidence),
            },
        )

    async def _members_joined(self, bed: Bed) -> None:
        """Until the scheduler has heard of every cluster: their command topics exist."""
        async with asyncio.timeout(_JOIN_S):
            while not all([await bed.log.partitions(f"fleet.commands.{name}") for name in bed.clusters]):  # noqa: ASYNC110
                await asyncio.sleep(0.5)

    async def _clock(self) -> None:
        try:
            async with asyncio.timeout(self._options.seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
        self._over.set()

    async def _progress(self, injection: Injection, user: User, journalist: Journalist) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            history = journalist.history
            self._say(
                f"… {user.asked} requests, {len(injection.trials)} faults healed, {injection.under_way} under way, "
                f"{len(history.appends)} records, {len(history.writes)} writes"
            )

    async def _settle(self, witness: Witness, requests: Requests) -> tuple[float | None, list[Violation]]:
        """Seconds until everything was as it should be; None, with what is wrong, if it never was."""
        began = time.monotonic()
        violations: list[Violation] = []
        while time.monotonic() - began < self._options.settle_s:
            try:
                violations = await self._look(witness, requests)
            except (LogError, RedisError, ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                violations = [Violation("unreachable", "the bed", repr(error))]
            if not violations:
                settle_s = time.monotonic() - began
                self._say(f"everything is as it was asked for after {settle_s:.1f} s")
                return settle_s, []
            self._say(f"not yet: {len(violations)}, such as {violations[0]}")
            await asyncio.sleep(_LOOK_S)
        return None, violations

    @staticmethod
    async def _look(witness: Witness, requests: Requests) -> list[Violation]:
        evidence = await witness.look()
        return [
            *settled(evidence),
            *checks.ends(requests.wishes, evidence),
            *checks.contents(requests.wishes, evidence),
            *policies.away(evidence),
        ]


def _tight(options: BedOptions) -> str:
    """A cluster that may be full, since the others have room for all else; not the one that is cut off at times."""
    return options.names[1] if len(options.names) > 2 else ""


def _not_possible(possible: list[Kind], only: tuple[str, ...]) -> dict[str, str]:
    there = {kind.name for kind in possible if kind.targets}
    return {kind.name: "nothing to break" for kind in FAULTS if kind.name not in there and not only}
