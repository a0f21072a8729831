"""What the simulation's checker does not ask, because only users and real clusters can say it. Pure.

- `ends`: each workload ends as its last valid request wants, by what users asked (not by what the journal says).
- `contents`: what runs is what was asked, image by image, pod by pod.
- `surplus`: no more pods of a workload live in a cluster than its deployments ask for, or asked for a moment ago, and
  what a rollout allows on top, and what Kubernetes' own controllers make twice when an API server or etcd fails.
- `crowded`: nodes that hold more than they have, whoever bound it there. That is told, and is no violation: where a
  cluster's own scheduler and ours bind pods at the same moment, no API server stops either.

`always` puts these, and those of `policies`, beside the simulation's rules for every moment, but for those that compare
moments of the log with moments of a cluster, or of a process: what a watch brings has the time at which it came, which
may be late.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shared.events.registry import decode
from shared.events.topics import STATUS
from shared.events.v1.status import Phase, WorkloadStatus
from shared.model.identities import SCHEDULER_NAME
from shared.model.quantities import resource_amount
from tests.chaos import policies
from tests.chaos.outages import outages
from tests.chaos.requests import Wish
from tests.simulation.checker import (
    Evidence,
    Violation,
    capacity,
    deletions,
    fencing,
    gangs,
    limits,
    preemption,
    rebalancing,
    replicas,
    returns,
)
from tests.simulation.checker.capacity import requests_of
from tests.simulation.checker.clusters import is_alive, workload_of
from tests.simulation.history import Lived, Written

Json = dict[str, Any]
_RULES: Final = (fencing, capacity, replicas, deletions, gangs, limits, preemption, returns, rebalancing, policies)
# Deployment's default: a quarter more, rounded up.
_SURGE: Final = 4
# A controller acts on what it has heard of; while the API server or etcd is frozen it hears nothing.
_LAG_MS: Final = 60_000
# A replica set's controller that got no answer to a creation creates once more, and deletes the one too many when it
# hears of both: so long after the API server or etcd answers again, at the most.
_REPAIRED_MS: Final = 30_000


def always(evidence: Evidence) -> list[Violation]:
    """What must never have been so."""
    history = evidence.history
    found = [violation for rule in _RULES for violation in rule.check(evidence)]
    return [*found, *surplus(history.writes, history.lives)]


def ends(wishes: Mapping[str, Wish], evidence: Evidence) -> list[Violation]:
    said = {key: decode(WorkloadStatus, record.value) for key, record in evidence.latest(STATUS.name).items()}
    violations = []
    for key, wish in wishes.items():
        status = said.get(key)
        if status is None:
            violations.append(Violation("no end", key, f"has no status, and should be {sorted(wish.phases)}"))
        elif status.phase not in wish.phases:
            message = f"is {status.phase}, and should be {sorted(wish.phases)}: {status.message[:200]}"
            violations.append(Violation("wrong end", key, message))
        elif (
            status.phase is Phase.RUNNING
            and not wish.open
            and (status.desired, status.ready) != (wish.replicas, wish.replicas)
        ):
            message = f"{status.ready} of {status.desired} replicas are said to be ready, {wish.replicas} are wanted"
            violations.append(Violation("wrong end", key, message))
    return violations


def contents(wishes: Mapping[str, Wish], evidence: Evidence) -> list[Violation]:
    images: dict[str, list[str]] = defaultdict(list)
    for objects in evidence.objects.values():
        for place, item in objects.items():
            key = workload_of(item)
            if place[0] == "pods" and key and is_alive(item):
                images[key].append(item["spec"]["containers"][0]["image"])
    violations = []
    for key in sorted(wishes.keys() | images.keys()):
        wish = wishes.get(key)
        if wish is not None and wish.open and len(images.get(key, ())) <= wish.replicas:
            continue
        wanted = [wish.image] * wish.replicas if wish and wish.phases == {Phase.RUNNING} else []
        if images.get(key, []) != wanted:
            found = dict(Counter(images.get(key, [])))
            violations.append(Violation("wrong content", key, f"{found} runs, {dict(Counter(wanted))} is wanted"))
    return violations


class _Asked(NamedTuple):
    """A deployment as it was at a moment."""

    at_ms: int
    replicas: int
    template: str


def surplus(writes: Sequence[Written], lives: Sequence[Lived] = ()) -> list[Violation]:
    broken = outages(lives, _REPAIRED_MS)
    asked: dict[tuple[str, str], list[_Asked]] = defaultdict(list)
    for write in writes:
        if write.resource == "deployments" and (key := workload_of(write.object)):
            replicas = 0 if write.verb == "DELETED" else write.object["spec"].get("replicas", 1)
            template = str(write.object["spec"].get("template"))
            asked[write.cluster, key].append(_Asked(write.at_ms, replicas, template))
    alive: dict[tuple[str, str], set[str]] = defaultdict(set)
    found: dict[tuple[str, str], Violation] = {}
    for write in writes:
        key = workload_of(write.object)
        if write.resource != "pods" or not key or write.object["spec"].get("schedulerName") == SCHEDULER_NAME:
            continue
        where, uid = (write.cluster, key), write.object["metadata"]["uid"]
        if write.verb == "DELETED" or not is_alive(write.object):
            alive[where].discard(uid)
            continue
        alive[where].add(uid)
        unanswered = sum(begin <= write.at_ms <= end for begin, end in broken.get(write.cluster, ()))
        allowed = _allowed(asked[where], write.at_ms, unanswered)
        if len(alive[where]) > allowed:
            message = f"{len(alive[where])} pods at {write.at_ms}, {allowed} are allowed"
            found.setdefault(where, Violation("surplus", "/".join(where), message))
    return list(found.values())


def _allowed(asked: Sequence[_Asked], at_ms: int, unanswered: int) -> int:
    """The most that was asked for about then: pods and deployments are heard of by watches of their own.

    As many again for each of the `unanswered` outages.

    A controller that lags behind two changes makes the surge of both, each in a replica set of its own.
    """
    about = [item for item in asked if abs(item.at_ms - at_ms) <= _LAG_MS]
    about += [item for item in asked if item.at_ms < at_ms - _LAG_MS][-1:]
    most = max((item.replicas for item in about), default=0)
    rollouts = len({item.template for item in about})
    return most * (1 + unanswered) + rollouts * -(-most // _SURGE)


def crowded(writes: Sequence[Written]) -> list[Violation]:
    """Pods that terminate still hold their room."""
    room: dict[tuple[str, str], Mapping[str, int]] = {}
    bound: dict[tuple[str, str], dict[str, Counter[str]]] = defaultdict(dict)
    found: dict[tuple[str, str], Violation] = {}
    for write in writes:
        metadata = write.object["metadata"]
        if write.resource == "nodes":
            allocatable = write.object["status"].get("allocatable") or {}
            room[write.cluster, metadata["name"]] = {k: resource_amount(k, str(v)) for k, v in allocatable.items()}
            continue
        node = write.object["spec"].get("nodeName")
        if write.resource != "pods" or not node:
            continue
        where = (write.cluster, node)
        finished = write.object["status"].get("phase") in {"Succeeded", "Failed"}
        if write.verb == "DELETED" or finished:
            bound[where].pop(metadata["uid"], None)
            continue
        bound[where][metadata["uid"]] = requests_of(write.object)
        if message := _over(bound[where].values(), room.get(where)):
            found.setdefault(where, Violation("crowded", "/".join(where), f"{message} at {write.at_ms}"))
    return list(found.values())


def _over(pods: Iterable[Counter[str]], room: Mapping[str, int] | None) -> str:
    if room is None:
        return ""
    asked = sum(pods, Counter[str]())
    over = {name: (amount, room.get(name, 0)) for name, amount in asked.items() if amount > room.get(name, 0)}
    return f"asked and allocatable: {over}" if over else ""
