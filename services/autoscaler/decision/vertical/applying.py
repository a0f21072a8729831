"""Workloads whose pods get the requests that are recommended: which of them, and when.

Pods that run are replaced for it, so it is done seldom: only of a workload that is as it should be (its status says
Running, of the generation that was decided last, and all pods have the requests that were applied before, so no rollout
is under way), `interval_ms` apart, and for no more than `most_a_minute` workloads of the fleet. What is said stays
until something else is worth it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.autoscaler.decision.hashes import short_hash
from services.autoscaler.decision.horizontal.seen import Pod
from services.autoscaler.decision.nodes.scheduling import Stated, as_requested, rolls, stated
from services.autoscaler.decision.vertical.worth import worth
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.requests_decisions import ContainerStated, PodSetUse, RequestsBasis, RequestsDecided
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.usage import RequestsRecommended
from shared.events.v1.vertical import AS_RECOMMENDED, PodSetRequests, Vertical

# What `PodSetRequests.state` says else.
NOT_LEARNED: Final = "NothingLearned"
NO_PODS: Final = "NoPods"
ROLLING: Final = "NotRunning"
TOO_SOON: Final = "TooSoon"
MANY: Final = "ManyWorkloads"

_MESSAGES: Final = {
    NOT_LEARNED: "nothing was measured of its containers yet",
    NO_PODS: "no pod of it runs",
    ROLLING: "other requests are recommended, and wait for all replicas to run as was decided last",
    TOO_SOON: "other requests are recommended, and the last ones were applied a short while ago",
    MANY: "other requests are recommended, and those of many other workloads were applied in the last minute",
}
_MINUTE_MS: Final = 60_000
_GONE: Final = frozenset({"Succeeded", "Failed"})


class Recommending(Protocol):
    """Who says what a workload's containers should request, by pod set and container."""

    def recommended(self, key: str) -> Mapping[str, Mapping[str, RequestsRecommended]]: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """In milliseconds: how often a workload is looked at, as the updater's --updater-interval; how long its requests
    stay at least.
    """

    look_ms: int = 60_000
    interval_ms: int = 600_000
    most_a_minute: int = 10


@dataclass(slots=True)
class _Known:
    """`generation` is that of the last decision, `containers` by pod set what they request by it; `applied` what of
    that is recommended, by container and resource, where pods can be held against it: overrides may say something else.
    """

    uid: str
    generation: int
    vertical: Vertical
    containers: dict[str, tuple[Stated, ...]]
    applied: dict[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    said: dict[str, PodSetRequests] = field(default_factory=dict)
    looked_ms: int | None = None


class Applying:
    """`life` is what decisions say of who made them."""

    def __init__(self, pace: Pace | None = None, life: str = "") -> None:
        self._pace = pace or Pace()
        self._life = life
        self._decided: list[RequestsDecided] = []
        self._known: dict[str, _Known] = {}
        self._restored: dict[str, WorkloadScaled] = {}
        # Of workloads that run as was decided, the generation.
        self._running: dict[str, int] = {}
        # Of which workloads requests were applied in the last minute, and when.
        self._applied: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def restore(self, key: str, said: WorkloadScaled | None) -> None:
        """What was said last, as it stands in the log at the start. None is a tombstone."""
        if said is None or not said.requests:
            self._restored.pop(key, None)
        else:
            self._restored[key] = said

    def observe_running(self, key: str, generation: int | None) -> None:
        """Of which decision a workload's status says that all of it runs; None: of none."""
        if generation is None:
            self._running.pop(key, None)
        else:
            self._running[key] = generation

    def place(self, key: str, placed: WorkloadPlaced | None, generation: int) -> None:
        """A workload as it was decided upon, by which entry of the journal."""
        vertical = placed.workload.vertical if placed is not None and not placed.deleting else None
        if placed is None or vertical is None or not vertical.applies:
            self._known.pop(key, None)
            return
        workload = as_requested(placed.workload, placed.pod_sets)
        containers = {item.name: stated(workload, item) for item in workload.pod_sets if rolls(workload, item)}
        known = self._known.get(key)
        if known is None or known.uid != placed.uid:
            known = self._known[key] = _Known(placed.uid, generation, vertical, containers)
            told = self._restored.pop(key, None)
            if told is not None and told.uid == placed.uid:
                known.said = {item.name: item for item in told.requests}
        if known.vertical != vertical:
            known.looked_ms = None
        known.generation, known.vertical, known.containers = generation, vertical, containers
        known.applied = {} if placed.workload.placement.overrides else _applied(placed)
        known.said = {name: item for name, item in known.said.items() if name in containers}

    def look(
        self, key: str, learned: Recommending, pods: Mapping[str, Sequence[Pod]], now_ms: int
    ) -> tuple[PodSetRequests, ...]:
        """What is to be said of a workload; `pods` by pod set. See also `take_decided`."""
        known = self._known.get(key)
        if known is None:
            return ()
        since = None if known.looked_ms is None else now_ms - known.looked_ms
        if since is None or not 0 <= since < self._pace.look_ms:
            known.looked_ms = now_ms
            self._decide(key, known, learned.recommended(key), pods, now_ms)
        return tuple(known.said[name] for name in known.containers if name in known.said)

    def take_decided(self) -> list[RequestsDecided]:
        """What looks decided since the last call, each to stand in the log before what is told of it."""
        found, self._decided = self._decided, []
        return found

    def _decide(
        self,
        key: str,
        known: _Known,
        recommended: Mapping[str, Mapping[str, RequestsRecommended]],
        pods: Mapping[str, Sequence[Pod]],
        now_ms: int,
    ) -> None:
        uses = []
        settled, before = self._running.get(key) == known.generation, dict(known.said)
        for name in known.containers:
            use = self._use(key, known, name, recommended.get(name, {}), pods.get(name, ()), now_ms)
            uses.append(use)
            said = known.said[name] = requested(use, known.vertical, self._pace, now_ms, settled=settled)
            if said.at == now_ms:
                self._applied[key] = now_ms
        if any(_gist(before.get(name)) != _gist(said) for name, said in known.said.items()):
            self._decided.append(self._record(key, known, uses, now_ms, settled=settled))

    def _use(
        self,
        key: str,
        known: _Known,
        name: str,
        recommended: Mapping[str, RequestsRecommended],
        pods: Iterable[Pod],
        now_ms: int,
    ) -> PodSetUse:
        running = [pod for pod in pods if pod.phase not in _GONE and not pod.deleting]
        last_ms = max((item.at for item in known.said.values() if item.at is not None), default=None)
        self._applied = {other: at for other, at in self._applied.items() if 0 <= now_ms - at < _MINUTE_MS}
        lived = (now_ms - pod.started_ms for pod in running if pod.started_ms is not None)
        return PodSetUse(
            name=name,
            containers=tuple(
                ContainerStated(name=item.name, requests=dict(item.requests), limits=dict(item.limits))
                for item in known.containers[name]
            ),
            recommended=dict(recommended),
            running=len(running),
            lived_ms=max(0, max(lived, default=0)),
            alike=_all_have(running, known.applied.get(name, {})),
            former=known.said.get(name),
            rested_ms=now_ms - last_ms if last_ms is not None else None,
            full=key not in self._applied and len(self._applied) >= self._pace.most_a_minute,
        )

    def _record(
        self, key: str, known: _Known, uses: Iterable[PodSetUse], now_ms: int, *, settled: bool
    ) -> RequestsDecided:
        return RequestsDecided(
            workload=key,
            uid=known.uid,
            requests=tuple(known.said[name] for name in known.containers if name in known.said),
            basis=RequestsBasis(
                life=self._life,
                config=config_hash(self._pace),
                spec=spec_hash(known.vertical),
                vertical=known.vertical,
                at=now_ms,
                settled=settled,
                pod_sets=tuple(uses),
            ),
        )


def requested(use: PodSetUse, vertical: Vertical, pace: Pace, now_ms: int, *, settled: bool) -> PodSetRequests:
    """What is to be said of a pod set. `settled`: its workload runs as was decided last."""
    found = worth([Stated(item.name, item.requests, item.limits) for item in use.containers], use.recommended, vertical)
    former = use.former or PodSetRequests(name=use.name, state=NOT_LEARNED)
    reason = found.reason(use.lived_ms)
    if not found.containers:
        state = NOT_LEARNED
    elif not use.running:
        state = NO_PODS
    elif not reason or former.containers == found.containers:
        state = AS_RECOMMENDED
    else:
        state = _hindrance(use, vertical, pace, settled=settled)
    if state or not reason:
        return former.model_copy(update={"state": state, "message": _MESSAGES.get(state, "")})
    return PodSetRequests(name=use.name, containers=found.containers, at=now_ms, reason=reason, state=AS_RECOMMENDED)


def _hindrance(use: PodSetUse, vertical: Vertical, pace: Pace, *, settled: bool) -> str:
    """Why what is worth it has to wait; empty if it has not."""
    if vertical.rolls and not settled:
        return ROLLING
    if use.rested_ms is not None and 0 < use.rested_ms < pace.interval_ms:
        return TOO_SOON
    if vertical.rolls and use.full:
        return MANY
    return "" if use.alike else ROLLING


def derive(record: RequestsDecided, pace: Pace) -> RequestsDecided:
    """What follows from the basis of a record, as a record."""
    basis = record.basis
    said = (requested(use, basis.vertical, pace, basis.at, settled=basis.settled) for use in basis.pod_sets)
    return record.model_copy(update={"requests": tuple(said)})


def config_hash(pace: Pace) -> str:
    """Equal for configurations that decide alike."""
    return short_hash(repr(pace).encode())


def spec_hash(vertical: Vertical) -> str:
    return short_hash(vertical.to_json())


def _gist(said: PodSetRequests | None) -> object:
    """What is decided, and why: not for how long."""
    return said and (said.containers, said.at, said.state)


def _applied(placed: WorkloadPlaced) -> dict[str, Mapping[str, Mapping[str, int]]]:
    return {
        item.name: {container.name: container.requests for container in item.requested.containers}
        for item in placed.pod_sets
        if item.requested is not None
    }


def _all_have(pods: Iterable[Pod], requests: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether no pod is left that was made with other requests."""
    return all(
        container.requests.get(resource) == (amount if resource == "cpu" else amount * 1000)
        for pod in pods
        for container in pod.containers
        for resource, amount in requests.get(container.name, {}).items()
    )
