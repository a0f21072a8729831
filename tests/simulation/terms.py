"""What users want of placement beside replicas, put into requests that were drawn already: so that all else of a seed
is the same without.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.simulation.plan import ClusterPlan, Fault, Request
from tests.simulation.users import crowd

Json = dict[str, Any]
# How many plans have workloads that return to the clusters which they had to leave, and such that move to better ones.
_RETURNS = 0.25
_REBALANCED = 0.25
# How many plans have queues, and how many have nodes with prices, and workloads that may cost no more than so much.
_QUEUED = 0.2
_PRICED = 0.25


def in_return(seed: int, requests: list[Request], *, always: bool) -> list[Request]:
    """In a quarter of the seeds most of the workloads return to where they had to leave."""
    rng = random.Random(f"{seed}/returns")
    if not always and not _drawn(seed, "returns", _RETURNS):
        return requests
    return _with(requests, lambda: rng.choice(({"failback": True}, {"failback": True}, None)))


def rebalanced(seed: int, requests: list[Request], *, always: bool) -> list[Request]:
    """In a quarter of the seeds most of the workloads move to better places; not those that are gangs."""
    rng = random.Random(f"{seed}/rebalanced")
    if not always and not _drawn(seed, "rebalanced", _REBALANCED):
        return requests

    def draw() -> Json | None:
        gain, cooldown = rng.choice((0.05, 0.1, 0.4)), rng.choice((0, 10, 30))
        return {"rebalance": {"minimumGain": gain, "cooldownSeconds": cooldown}} if rng.random() < 0.8 else None

    return _with(requests, draw)


def prices(seed: int, clusters: tuple[ClusterPlan, ...], *, always: bool) -> tuple[ClusterPlan, ...]:
    """In a quarter of the seeds nodes cost something: a core not the same in each cluster."""
    rng = random.Random(f"{seed}/prices")
    if not always and not _drawn(seed, "priced", _PRICED):
        return clusters
    return tuple(item.model_copy(update={"price": item.cpu * rng.choice((0.02, 0.05, 0.1))}) for item in clusters)


def in_budgets(seed: int, requests: list[Request]) -> list[Request]:
    """Most of the workloads may cost so much an hour, and no more."""
    rng = random.Random(f"{seed}/budgets")
    return _with(
        requests, lambda: {"maxPricePerHour": rng.choice((0.05, 0.1, 0.2, 0.5))} if rng.random() < 0.8 else None
    )


def absence(seed: int, services: list[str], busy: float) -> list[Fault]:
    """Where something may return, or move to better places, a watcher is away for so long that its cluster is left."""
    watchers = [name for name in services if name.startswith("watcher")]
    if not _drawn(seed, "returns", _RETURNS) and not _drawn(seed, "rebalanced", _REBALANCED):
        return []
    rng = random.Random(f"{seed}/absence")
    # Soon enough to be over before all is healed.
    at_s = rng.uniform(1, max(busy - 35, 2))
    return [Fault(at_s=at_s, kind="outage", target=rng.choice(watchers), seconds=rng.uniform(35, 70))]


def _drawn(seed: int, what: str, part: float) -> bool:
    return random.Random(f"{seed}/{what} drawn").random() < part


def queues(seed: int, clusters: tuple[ClusterPlan, ...], *, always: bool) -> dict[str, Json]:
    """In a fifth of the seeds the queues of the fleet, by name: one has a guarantee, another a limit."""
    rng = random.Random(f"{seed}/queues")
    if not always and not _drawn(seed, "queued", _QUEUED):
        return {}
    cpu = sum(cluster.nodes * cluster.cpu for cluster in clusters)
    guarantee, limit = (max(int(cpu * part), 1) for part in (rng.choice((0.2, 0.4)), rng.choice((0.1, 0.2, 0.4))))
    return {
        "team": {"weight": rng.choice((1, 2)), "guarantee": {"cpu": str(guarantee)}},
        "batch": {"limit": {"cpu": str(limit)}},
    }


def in_queues(seed: int, busy: float, requests: list[Request]) -> list[Request]:
    """Each workload is of one of the queues, or of none that it names; with a crowd, so that there is too little room
    for all of them.
    """
    rng = random.Random(f"{seed}/in queues")
    crowding = crowd(seed, busy, [])
    if not {request.key for request in crowding} & {request.key for request in requests}:
        requests = [*requests, *crowding]
    names: dict[str, Json] = {}
    for request in requests:
        names.setdefault(request.key, rng.choice(({"queue": "team"}, {"queue": "batch"}, {})))
    return [_changed(request, lambda workload, own=names[request.key]: {**workload, **own}) for request in requests]  # type: ignore[misc]


def _with(requests: list[Request], draw: Callable[[], Json | None]) -> list[Request]:
    """Terms of placement for each workload, the same in all of its requests."""
    terms: dict[str, Json | None] = {}
    for request in requests:
        if request.key not in terms:
            terms[request.key] = draw()

    def change(workload: Json, own: Json) -> Json:
        placement = workload["placement"]
        if "atMostOnce" in placement or ("gang" in placement and "rebalance" in own):
            # These exclude each other.
            return workload
        return {**workload, "placement": {**placement, **own}}

    return [
        _changed(request, lambda workload, own=terms[request.key]: change(workload, own or {}))  # type: ignore[misc]
        for request in requests
    ]


def _changed(request: Request, change: Callable[[Json], Json]) -> Request:
    if not isinstance(request.value, dict) or "placement" not in request.value.get("workload", {}):
        return request
    return request.model_copy(update={"value": {**request.value, "workload": change(request.value["workload"])}})
