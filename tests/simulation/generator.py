"""From a seed to a plan: the fleet's shape, what people ask for and do, and what breaks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tests.simulation.plan import Action, ClusterPlan, Fault, Plan, Request
from tests.simulation.slots import slots_of

Json = dict[str, Any]
# How many plans have a flood of requests, and how many requests that is: more than a leader takes at once.
_FLOODED = 0.05
FLOOD = "flood"
_FLOOD = 200
_NAMES = ("alpha", "beta", "gamma")


def generate(seed: int, kinds: Sequence[str] = ()) -> Plan:
    """The plan of a seed. With `kinds`, all that breaks is of these kinds, and more often.

    A kind may name whom it befalls by the beginning of the name, as in `kill:scheduler`. `FLOOD` is none of the faults.
    """
    rng = random.Random(f"{seed}/plan")
    clusters = tuple(
        ClusterPlan(name=name, nodes=rng.randint(2, 4), cpu=rng.choice((2, 4, 8)), pod_start_s=rng.choice((0.5, 1, 3)))
        for name in _NAMES[: rng.choice((1, 2, 2, 3))]
    )
    names = [cluster.name for cluster in clusters]
    busy = rng.uniform(40, 90)
    agents, schedulers = rng.choice(("each", "each", "shared")), rng.choice((1, 2, 2))
    services = [slot.name for slot in slots_of(names, agents, schedulers)]
    requests, actions, faults = (
        _Users(rng, names).stream(busy),
        _actions(rng, names, busy),
        _faults(rng, names, services, busy, [kind for kind in kinds if kind != FLOOD]),
    )
    return Plan(
        seed=seed,
        clusters=clusters,
        agents=agents,
        schedulers=schedulers,
        fenced=random.Random(f"{seed}/fenced").random() < 0.5,
        requests=(*requests, *_flood(seed, busy, always=FLOOD in kinds)),
        actions=tuple(actions),
        faults=tuple(faults),
        busy_s=busy,
        quiet_s=rng.choice((0, 0, 60, 300)),
    )


class _Users:
    """Requests that mostly make sense: creations, changes, scalings and deletions of a few workloads."""

    def __init__(self, rng: random.Random, clusters: list[str]) -> None:
        self._rng = rng
        self._clusters = clusters
        self._known: dict[str, Json] = {}

    def stream(self, until: float) -> list[Request]:
        times = sorted(self._rng.uniform(3, until - 2) for _ in range(self._rng.randint(4, 16)))
        return [self._request(at) for at in times]

    def _request(self, at: float) -> Request:
        rng = self._rng
        name = f"w{rng.randint(0, 5)}"
        key = f"default/{name}"
        choice = rng.random()
        if choice < 0.06:
            return Request(at_s=at, key=key, value=rng.choice(("{", '{"operation":"apply"}', "[]", "null")))
        known = self._known.get(name)
        if known is not None and choice < 0.25:
            del self._known[name]
            return self._asked(at, key, {"operation": "delete", "workload": {"namespace": "default", "name": name}})
        if known is not None and choice < 0.8:
            workload = self._changed(known)
            operation = rng.choice(("apply", "change"))
        else:
            workload, operation = self._new(name), rng.choice(("apply", "create"))
        self._known[name] = workload
        return self._asked(at, key, {"operation": operation, "workload": workload})

    def _asked(self, at: float, key: str, value: Json) -> Request:
        return Request(at_s=at, key=key, value=value, repeated=self._rng.random() < 0.15)

    def _new(self, name: str) -> Json:
        rng = self._rng
        binding = rng.choice(("cluster", "cluster", "node"))
        sets = [self._pod_set(f"s{number}", binding) for number in range(rng.choice((1, 1, 2)))]
        placement: Json = {"binding": binding}
        if rng.random() < 0.25:
            placement["clusters"] = sorted(rng.sample(self._clusters, rng.randint(1, len(self._clusters))))
        return {"namespace": "default", "name": name, "podSets": sets, "placement": placement}

    def _pod_set(self, name: str, binding: str) -> Json:
        rng = self._rng
        if binding == "cluster" and rng.random() < 0.15:
            return {"name": name, "manifest": rng.choice((_config_map, _job))()}
        cpu = rng.choice(("100m", "500m", "1", "1", "2"))
        resources = {"requests": {"cpu": cpu, "memory": rng.choice(("64Mi", "256Mi", "1Gi"))}}
        return {
            "name": name,
            "replicas": rng.randint(0, 5),
            "image": f"app:{rng.randint(1, 3)}",
            "resources": resources,
        }

    def _changed(self, workload: Json) -> Json:
        rng = self._rng
        sets = []
        for pod_set in workload["podSets"]:
            changed = dict(pod_set)
            if "image" in changed:
                if rng.random() < 0.6:
                    changed["replicas"] = rng.randint(0, 6)
                if rng.random() < 0.4:
                    changed["image"] = f"app:{rng.randint(1, 3)}"
            sets.append(changed)
        return {**workload, "podSets": sets}


def _flood(seed: int, busy: float, *, always: bool) -> list[Request]:
    """Now and then somebody asks for very much at once, and none of it makes sense."""
    rng = random.Random(f"{seed}/flood")
    if rng.random() > _FLOODED and not always:
        return []
    at_s = rng.uniform(3, busy - 2)
    return [Request(at_s=at_s, key=f"default/flood{number}", value="{") for number in range(_FLOOD)]


def _config_map() -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}


def _job() -> Json:
    container = {"name": "main", "image": "job:1", "resources": {"requests": {"cpu": "100m"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}}


_ACTIONS = ("add_nodes", "remove_node", "fail_node", "delete_deployment", "delete_pod", "create_foreign")


def _actions(rng: random.Random, names: list[str], busy: float) -> list[Action]:
    count = rng.choice((0, 0, 1, 2, 4))
    return [
        Action(
            at_s=rng.uniform(5, busy), what=rng.choice(_ACTIONS), cluster=rng.choice(names), number=rng.randint(1, 3)
        )
        for _ in range(count)
    ]


# Kinds of faults, by what they befall. A plan draws a few kinds and some faults of each.
PROCESS_FAULTS = ("kill", "outage", "kill_at_effect", "pause", "stop", "jump_clock")
LOG_FAULTS = ("cut_log", "slow_log", "lose_log_calls")
API_FAULTS = (
    "cut_api",
    "slow_api",
    "stale_api",
    "throttle_api",
    "fail_api",
    "lose_api_calls",
    "drop_watches",
    "forget_api",
)
WORLD_FAULTS = ("clean_log", "lose_broker", "cut_store", "wipe_store")
ALL_KINDS = (*PROCESS_FAULTS, *LOG_FAULTS, *API_FAULTS, *WORLD_FAULTS)
KINDS = ALL_KINDS


def _faults(
    rng: random.Random, names: list[str], services: list[str], busy: float, only: Sequence[str] = ()
) -> list[Fault]:
    kinds = only or rng.sample(KINDS, min(len(KINDS), rng.choice((0, 1, 2, 3, 5, 8))))
    counts = (3, 5, 8) if only else (1, 2, 3, 5)
    return sorted(
        (_fault(rng, kind, names, services, busy) for kind in kinds for _ in range(rng.choice(counts))),
        key=lambda fault: fault.at_s,
    )


def _fault(rng: random.Random, kind: str, names: list[str], services: list[str], busy: float) -> Fault:
    kind, _, whom = kind.partition(":")
    befallen = [name for name in services if name.startswith(whom)]
    target = rng.choice(names) if kind in API_FAULTS else "" if kind in WORLD_FAULTS else rng.choice(befallen)
    return Fault(
        at_s=rng.uniform(1, busy), kind=kind, target=target, seconds=_span(rng, kind), number=_number(rng, kind)
    )


def _span(rng: random.Random, kind: str) -> float:
    """How long it lasts: mostly seconds, sometimes long enough for every lease and patience to run out."""
    if kind in {"kill", "pause", "cut_log", "cut_api", "cut_store"}:
        return rng.choice((rng.uniform(0.1, 3), rng.uniform(2, 10), rng.uniform(10, 40)))
    if kind == "outage":
        return rng.uniform(35, 70)
    return rng.uniform(1, 30)


def _number(rng: random.Random, kind: str) -> int:
    match kind:
        case "kill_at_effect":
            return rng.randint(1, 200)
        case "jump_clock":
            return rng.choice((-1, 1)) * rng.choice((200, 5_000, 60_000, 3_600_000))
        case "slow_log" | "slow_api":
            return rng.choice((20, 200, 1_500, 4_000))
        case "lossy_log":
            return rng.choice((5, 20, 60))
        case "throttle_api" | "fail_api" | "lose_api_calls":
            return rng.choice((10, 40, 90))
    return rng.randint(0, 2)
